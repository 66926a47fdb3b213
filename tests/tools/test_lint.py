"""The Serve configs we ship are good, and a misspelled key at any level is shown with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.config import PROJECT_ROOT, Settings
from serve_app.errors import ConfigError
from serve_app.tools.lint import lint_serve_config, main

# Ray 2.60 declares its options in a way that pydantic 2 has a word on, once, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning")

GOOD = """\
proxy_location: HeadOnly
http_options:
  host: 127.0.0.1
  port: 8000
  request_timeout_s: null
logging_config:
  encoding: JSON
applications:
  - name: assets
    route_prefix: /
    import_path: serve_app.app:build
    runtime_env:
      env_vars: {ANYTHING: "1"}
    args:
      max_replicas: 4
    deployments:
      - name: Renderer
        max_ongoing_requests: 6
        logging_config: {log_level: INFO}
        autoscaling_config:
          min_replicas: 0
          max_replicas: 4
        ray_actor_options:
          num_gpus: 1
          resources: {any_name: 1}
          runtime_env: {env_vars: {ANYTHING: "1"}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    return path


def test_a_good_config_passes(tmp_path: Path) -> None:
    """Names a user may choose, such as environment variables and resources, are not keys."""
    lint_serve_config(write(tmp_path, GOOD), Settings)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("proxy_location", "proxy_locations", 1, "did you mean 'proxy_location'?"),
        ("http_options", "http_option", 2, "did you mean 'http_options'?"),
        ("  host:", "  hots:", 3, "did you mean 'host'?"),
        ("request_timeout_s", "request_timeout", 5, "did you mean 'request_timeout_s'?"),
        ("  encoding:", "  encodings:", 7, "did you mean 'encoding'?"),
        ("applications:", "application:", 8, "did you mean 'applications'?"),
        ("route_prefix", "route_prefx", 10, "did you mean 'route_prefix'?"),
        ("    runtime_env:\n", "    runtime_envs:\n", 12, "did you mean 'runtime_env'?"),
        ("      env_vars:", "      env_var:", 13, "did you mean 'env_vars'?"),
        ("      max_replicas: 4\n    d", "      max_replica: 4\n    d", 15, "'max_replicas'?"),
        ("    deployments:", "    deployment:", 16, "did you mean 'deployments'?"),
        ("max_ongoing_requests", "max_ongoing_request", 18, "did you mean 'max_ongoing_requests'?"),
        ("log_level", "log_levl", 19, "did you mean 'log_level'?"),
        ("autoscaling_config", "autoscale_config", 20, "did you mean 'autoscaling_config'?"),
        ("min_replicas", "min_replica", 21, "did you mean 'min_replicas'?"),
        ("ray_actor_options", "ray_actor_option", 23, "did you mean 'ray_actor_options'?"),
        ("num_gpus", "num_gpu", 24, "did you mean 'num_gpus'?"),
        ("{env_vars:", "{env_var:", 26, "did you mean 'env_vars'?"),
        ("port: 8000", "port: web", 4, "valid integer"),
        ("min_replicas: 0", "min_replicas: many", 21, "valid integer"),
        ("min_replicas: 0", "min_replicas: 5", 20, "max_replicas"),
        ("max_replicas: 4\n    d", "max_replicas: some\n    d", 15, "valid integer"),
        ("max_replicas: 4\n    d", "max_replicas: 0\n    d", 15, "greater than or equal to 1"),
        ("  - name: assets\n    route", "  - route", 9, "import_path"),
    ],
)
def test_a_mistake_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    """Misspelled keys, which Ray would ignore, and values that its schema refuses."""
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if says == "import_path":
        text = text.replace("    import_path: serve_app.app:build\n", "")
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        lint_serve_config(path, Settings)
    found = caught.value.detail.splitlines()
    assert any(text.startswith(f"{path}:{line}: ") and says in text for text in found), found


def test_args_are_free_where_their_type_is_not_known(tmp_path: Path) -> None:
    """Other applications take other arguments."""
    lint_serve_config(write(tmp_path, GOOD.replace("max_replicas: 4\n    d", "any: 4\n    d")))


def test_the_command_fails_with_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the list on stderr; 0 and silence for a good file."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(GOOD.replace("num_gpus", "num_gpu"))
    assert main([str(good)]) == 0
    assert main([str(good), str(bad)]) == 1
    assert f"{bad}:24: " in capsys.readouterr().err


def with_files(tmp_path: Path, models: str, styles: str) -> Path:
    """A Serve config that names these files."""
    for name, text in (("models", models), ("styles", styles)):
        (tmp_path / f"{name}.yaml").write_text(text)
    args = "".join(f"      {name}_file: {tmp_path}/{name}.yaml\n" for name in ("models", "styles"))
    return write(tmp_path, GOOD.replace("    args:\n", f"    args:\n{args}"))


MODELS = """\
default: tiny
models:
  tiny: {family: sd, path: serve_app/starter/weights, native_size: [128, 128], steps: 9,
    guidance_scale: 4, schedulers: [ddim]}
"""
STYLES = 'styles: {icon: {template: "{prompt}"}}\n'


@pytest.mark.parametrize(
    ("models", "styles", "said"),
    [
        (MODELS, STYLES, []),
        (MODELS.replace("ddim", "ddmi"), STYLES, ["models.yaml:4: "]),
        (MODELS, STYLES.replace("{prompt}", "x"), ["styles.yaml:1: "]),
        (MODELS.replace("ddim", "ddmi"), "- a\n", ["models.yaml:4: ", "styles.yaml:1: "]),
        (MODELS, "styles: {a: *b}\n", ["styles.yaml:1: not YAML: "]),
        (MODELS, "<<: 1\nstyles: {}\n", ["styles.yaml:1: '<<' merges "]),
        (MODELS.replace("starter/", "starter/no"), STYLES, ["model 'tiny': "]),
    ],
)
def test_the_files_that_a_config_names_are_read_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], models: str, styles: str, said: list[str]
) -> None:
    """All that is wrong with them, each with its line, and once if two configs name them."""
    config = with_files(tmp_path, models, styles)
    assert main([str(config), str(config)]) == (1 if said else 0)
    lines = capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True)), lines


def test_a_models_and_a_styles_file_can_be_checked_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main([str(PROJECT_ROOT / "configs" / f"{name}.yaml") for name in ("models", "styles")]) == 0
    )
    with_files(tmp_path, MODELS.replace("family", "famly"), STYLES.replace("template", "tmplate"))
    assert main([str(tmp_path / f"{name}.yaml") for name in ("models", "styles")]) == 1
    assert "'family'" in (said := capsys.readouterr().err)
    assert "'template'" in said


def test_a_tilde_names_a_file_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, GOOD)
    assert main(["~/serve.yaml"]) == 0
    assert main(["~nobody_of_this_name/serve.yaml"]) == 1
    assert "no home directory is known" in capsys.readouterr().err


def test_the_command_reads_the_models_and_styles_of_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo in one of them is shown with its file and line."""
    models = tmp_path / "models.yaml"
    text = (PROJECT_ROOT / "configs/models.yaml").read_text()
    models.write_text(text.replace("    native_size:", "    native_sise:", 1))
    starter = text.splitlines().index("  starter:") + 1
    config = GOOD.replace("      max_replicas: 4\n    d", f"      models_file: {models}\n    d")
    assert main([str(write(tmp_path, config))]) == 1
    assert f"{models}:{starter}: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["serve_config.yaml", "configs/serve.gpu.yaml"])
def test_the_shipped_configs_are_good(name: str) -> None:
    """Every key exists, in Ray's schema or in Settings."""
    lint_serve_config(PROJECT_ROOT / name, Settings)
