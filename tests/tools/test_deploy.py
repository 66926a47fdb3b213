"""A deploy is stamped with what it stands for, so that Serve, which compares configs, sees what changed."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.cluster.handles import STAMP, quoted_python
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.errors import NotServing
from serve_app.tools.check import Checked
from serve_app.tools.dashboard import Dashboard
from serve_app.tools.deploy import files_version, stamp


def files(directory: Path) -> Settings:
    """Settings with models and styles of their own, whose one model is a folder of this test."""
    for name in ("models.yaml", "styles.yaml"):
        text = (PROJECT_ROOT / "configs" / name).read_text()
        text = text.replace("path: serve_app/starter/weights", f"path: {directory}/weights")
        (directory / name).write_text(text)
    (directory / "weights").mkdir()
    (directory / "weights/unet.safetensors").write_bytes(b"1")
    return Settings(
        models_file=directory / "models.yaml", styles_file=directory / "styles.yaml", num_gpus=0
    )


@pytest.mark.parametrize("file", ["models.yaml", "styles.yaml", "weights/unet.safetensors"])
def test_a_changed_file_is_another_version(tmp_path: Path, file: str) -> None:
    settings = files(tmp_path)
    before = files_version(settings)
    assert files_version(settings) == before
    with (tmp_path / file).open("a") as changed:
        changed.write("# ")
    assert files_version(settings) != before


def test_the_stamp_is_in_the_environment_which_serve_compares(tmp_path: Path) -> None:
    """What the config says there already stays, and the config itself is not changed."""
    from ray.serve._private.deploy_utils import get_app_code_version
    from ray.serve.schema import ServeDeploySchema

    def code_version(config: dict[str, Any]) -> str:
        return get_app_code_version(ServeDeploySchema.model_validate(config).applications[0])

    settings = files(tmp_path)
    config = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())
    config["applications"][0]["runtime_env"] = {"env_vars": {"HF_HOME": "/models"}}
    checked = Checked(tmp_path, config, {"assets": settings})
    first = stamp(checked)
    env = first["applications"][0]["runtime_env"]["env_vars"]
    assert env == {"HF_HOME": "/models", STAMP: files_version(settings)}
    assert STAMP not in str(config)
    assert code_version(stamp(checked)) == code_version(first)
    with (tmp_path / "styles.yaml").open("a") as styles:
        styles.write("# a word more\n")
    assert code_version(stamp(checked)) != code_version(first)


@pytest.mark.parametrize("folder", ["/home/anna/Meine Projekte", "/home/jörg/it's", "/a;b"])
def test_a_python_that_a_shell_would_not_find_is_quoted(folder: str) -> None:
    """Ray writes it unquoted into a shell command. Any other is left to each node."""
    env = quoted_python(f"{folder}/.venv/bin/python")
    assert shlex.split(f"exec {env['py_executable']} -m x")[1] == f"{folder}/.venv/bin/python"
    assert quoted_python("/srv/assets/.venv/bin/python") == {}


@contextmanager
def answering(status: int, text: str = "") -> Generator[str]:
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "has none"), (403, "has another one"), (500, "Ray answers 500: it is broken")],
)
def test_a_dashboard_that_refuses_is_told_in_words(status: int, says: str) -> None:
    with (
        answering(status, "it is broken") as address,
        Dashboard(address) as dashboard,
        pytest.raises(NotServing, match=says),
    ):
        dashboard.serve()


def test_a_dashboard_that_is_not_there_is_named(tmp_path: Path) -> None:
    with answering(200) as address:
        gone = address
    with Dashboard(gone) as dashboard, pytest.raises(NotServing, match=gone):
        dashboard.serve()
