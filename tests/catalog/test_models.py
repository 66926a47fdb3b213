"""models.yaml: what it may contain; every mistake is reported with its line and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.catalog.models import load_models, size_problem, without_folders
from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError
from tests.factories import model_spec

GOOD = """\
default: tiny
models:
  tiny:
    family: sd
    path: models/tiny
    native_size: [128, 128]
    sizes: [[128, 128], [128, 192]]
    token_limit: 24
    steps: 20
    guidance_scale: 4
    schedulers: [ddim, euler]
  big:
    family: sdxl
    hub: someone/big
    revision: 0123456789abcdef0123456789abcdef01234567
    native_size: [1024, 1024]
    side: {min: 512, max: 2048}
    multiple: 64
    steps: 30
    guidance_scale: 6.5
    schedulers: [dpmpp_2m_karras]
"""


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_models(path)
    return caught.value.detail.replace(f"{tmp_path}/", "")


def test_a_good_file_becomes_named_specs(tmp_path: Path) -> None:
    """The key is the name, and the mapping knows which model is the default."""
    path = tmp_path / "models.yaml"
    path.write_text(GOOD)
    models = load_models(path)
    assert list(models) == ["tiny", "big"]
    assert models.default == "tiny"
    assert models["tiny"].name == "tiny"
    assert models["tiny"].sizes == [(128, 128), (128, 192)]
    assert models["big"].guidance_scale == 6.5


def test_a_tilde_in_a_path_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the model's directory and of its tiny decoder's."""
    monkeypatch.setenv("HOME", "/home/anna")
    path = tmp_path / "models.yaml"
    tilde = "path: ~/models/tiny\n    tiny_decoder: ~/taesd"
    path.write_text(GOOD.replace("path: models/tiny", tilde))
    spec = load_models(path)["tiny"]
    assert (spec.path, spec.tiny_decoder) == ("/home/anna/models/tiny", "/home/anna/taesd")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("token_limit", "token_limits", 8, "did you mean 'token_limit'?"),
        ("{min: 512", "{mim: 512", 17, "did you mean 'min'?"),
        ("default: tiny", "default: tyni", 1, "did you mean 'tiny'? Allowed: big, tiny"),
        ("default: tiny", "defualt: tiny", 1, "did you mean 'default'?"),
        ("family: sd\n", "family: dalle\n", 4, "'sd', 'sdxl'"),
        ("steps: 20", "steps: twenty", 9, "valid integer"),
        ("steps: 20", "steps: '20'", 9, "valid integer"),
        ("steps: 20", "steps: yes", 9, "valid integer"),
        ("steps: 20", "steps: 20\n    steps: 21", 10, "twice; the first is in line 9"),
        ("steps: 20", "steps: 500", 9, "must not exceed max_steps, 150"),
        ("guidance_scale: 4", "guidance_scale: 40", 10, "must not exceed 30"),
        ("guidance_scale: 4", "guidance_scale: .nan", 10, "greater than or equal to 0"),
        ("    steps: 20\n", "", 3, "models.tiny.steps: is missing"),
        ("[ddim, euler]", "[ddim, eular]", 11, "did you mean 'euler'?"),
        ("[ddim, euler]", "[ddim, ddim]", 11, "is here twice"),
        ("[ddim, euler]", "[]", 11, "at least 1 item"),
        ("path: models/tiny", "path: models/tiny\n    hub: a/b", 3, "exactly one of `path`"),
        ("path: models/tiny", "path: ~nobody_of_this_name/x", 5, "no home directory is known"),
        ("    path: models/tiny\n", "", 3, "exactly one of `path` and `hub`"),
        ("path: models/tiny", "path: models/tiny\n    revision: main", 6, "only a `hub` model"),
        ("hub: someone/big", "hub: https://example.org/big", 14, "owner/name"),
        ("0123456789abcdef0123456789abcdef01234567", "main", 15, "40 hex digits"),
        ("    revision: 0123456789abcdef0123456789abcdef01234567\n", "", 12, "40 hex digits"),
        ("native_size: [128, 128]", "native_size: [128, 256]", 6, "128x256 is not a size"),
        ("native_size: [128, 128]", "native_size: [128]", 6, "models.tiny.native_size.1"),
        ("native_size: [1024, 1024]", "native_size: [1000, 1024]", 16, "multiples of 64"),
        ("native_size: [1024, 1024]", "native_size: [256, 256]", 16, "within 512 to 2048"),
        ("[128, 192]]", "[128, 190]]", 7, "128x190 is not made of multiples of 8"),
        ("multiple: 64", "multiple: 12", 18, "multiple of 8"),
        ("[128, 192]]", "[8192, 8192]]", 7, "8192x8192 is more than"),
        ("steps: 20", "steps: 1", 9, "ddim needs at least 2"),
        ("steps: 30", "steps: 30\n    max_steps: 2000", 20, "less than or equal to 1000"),
        ("multiple: 64", "multiple: 64\n    sizes: [[1024, 1024]]", 17, "give one of both"),
        ("min: 512, max: 2048", "min: 2048, max: 512", 17, "min must not exceed max"),
        ("steps: 30", "steps: 30\n    prompt_template: masterpiece", 20, "{prompt} exactly once"),
        ("steps: 30", 'steps: 30\n    prompt_template: "{prompt}{x}"', 20, "only placeholder"),
        ("steps: 30", "steps: 30\n    draft: {decoder: tiny}", 20, "tiny needs `tiny_decoder`"),
        ("steps: 30", "steps: 30\n    draft: {adapter: fast}", 20, "no such LoRA: 'fast'"),
        ("steps: 20", "steps: 20\n    draft: {scheduler: lcm}", 10, "model's schedulers: ddim"),
        ("steps: 20", "steps: 20\n    draft: {steps: 1}", 10, "drawn with 2 to 150 steps"),
        ("steps: 20", "steps: 20\n    draft: {guidance_scale: 99}", 10, "must not exceed 30"),
        (
            "steps: 20",
            "steps: 20\n    draft: {timesteps: [800]}",
            10,
            "ddim takes none; with a `scheduler`",
        ),
        ("steps: 20", "steps: 20\n    draft: {timesteps: [9, 9]}", 10, "must fall from one step"),
        ("steps: 20", "steps: 20\n    draft: {timesteps: [1000]}", 10, "less than or equal to 999"),
        ("steps: 20", "steps: 20\n    draft: {timesteps: [9], steps: 2}", 10, "leave it out"),
        ("steps: 30", 'steps: 30\n    negative_prompt: " text"', 20, "without spaces at its ends"),
        ("  tiny:", "  Tiny Model:", 3, "a-z, 0-9"),
        ("  tiny:", "  3:", 3, "is not text: put it in quotes"),
        ("family: sd\n", "family: sd\n    name: other\n", 5, "the name is the key already"),
        ("default: tiny", "default: [tiny", 2, "not YAML"),
        ("steps: 20", "steps: 2026-13-45", 9, "month must be in 1..12"),
    ],
)
def test_a_mistake_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    """The error names file and line, and what is allowed there."""
    assert old in GOOD
    first = refusal(tmp_path, GOOD.replace(old, new, 1)).splitlines()
    assert any(text.startswith(f"models.yaml:{line}: ") and says in text for text in first), first


TRANSFORMER = """\
default: dit
models:
  dit:
    family: flux
    path: models/dit
    native_size: [1024, 1024]
    side: {min: 512, max: 2048}
    multiple: 16
    steps: 4
    guidance_scale: 0
    schedulers: [flow_euler]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("multiple: 16", "multiple: 8", 8, "multiple of 16: one latent of flux is 16 pixels wide"),
        ("flow_euler", "euler", 11, "euler is not for flux, which draws with flow_euler, "),
        (
            "steps: 4",
            "steps: 4\n    compile: true",
            10,
            "models of flux have none: only sd and sdxl",
        ),
        ("steps: 4", "steps: 4\n    vae: models/vae", 10, "models of flux have none"),
        ("steps: 4", "steps: 4\n    clip_skip: 2", 10, "models of flux have none"),
        ("steps: 4", "steps: 4\n    prompt_syntax: weighted", 10, "models of flux have none"),
        ("family: flux", "family: sd", 11, "flow_euler is not for sd, which draws with euler, "),
        ("family: flux", "family: any", 3, "`pipeline` must be one of AuraFlowPipeline, "),
        ("family: flux", "family: any\n    pipeline: FluxPipeline", 5, "`pipeline` must be one of"),
        (
            "family: flux",
            "family: flux\n    pipeline: FluxPipeline",
            5,
            "of the family `any` alone",
        ),
    ],
)
def test_a_transformer_cannot_be_given_what_is_for_unets(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    """And the other way round."""
    (tmp_path / "good.yaml").write_text(TRANSFORMER)
    assert load_models(tmp_path / "good.yaml")["dit"].family == "flux"
    first = refusal(tmp_path, TRANSFORMER.replace(old, new, 1)).splitlines()
    assert any(text.startswith(f"models.yaml:{line}: ") and says in text for text in first), first


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    """Sorted by line, so that one start is enough to correct them all."""
    text = GOOD.replace("ddim", "dim").replace("someone/big", "big")
    assert [line.split(":")[1] for line in refusal(tmp_path, text).splitlines()] == ["11", "14"]


@pytest.mark.parametrize("text", ["", "[]", "default: a\nmodels: {}\n", "models: 3\ndefault: a\n"])
def test_a_file_without_models_is_refused(tmp_path: Path, text: str) -> None:
    """Empty, of the wrong shape, or with no model at all."""
    assert refusal(tmp_path, text).startswith("models.yaml:")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Missing and not UTF-8 are configuration errors too, not tracebacks."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_models(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"default: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_models(tmp_path / "latin.yaml")


def test_without_sizes_and_side_only_the_native_size_is_drawn() -> None:
    """Any other size might be one that the model cannot draw."""
    spec = model_spec(native_size=(512, 512))
    assert size_problem(spec, 512, 512) is None
    assert size_problem(spec, 512, 520)


def test_the_shipped_file_is_good_and_pinned() -> None:
    """The starter is the default; every hub model names a full commit id."""
    models = load_models(PROJECT_ROOT / "configs/models.yaml")
    assert models.default == "starter"
    assert models["starter"].path == "serve_app/starter/weights"
    assert all(spec.revision for spec in models.values() if spec.hub)


def test_a_message_for_clients_has_no_directory() -> None:
    """Of a name that a word holds, only what stands alone is taken for it."""
    said = "model 'tiny': /srv/big is not a directory, nor is /srv/bigger; a vae is missing"
    told = without_folders(said, [model_spec(path="/srv/big", vae="v")])
    expected = "model 'tiny': its folder is not a directory, nor is /srv/bigger; a vae is missing"
    assert told == expected
