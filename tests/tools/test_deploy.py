"""A deploy is stamped with what it stands for, so that Serve, which compares configs, sees what changed."""

from __future__ import annotations

import io
import json
import shlex
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from serve_app.cluster.handles import STAMP, quoted_python
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.errors import NotServing
from serve_app.tools import deploy as deploying
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


class Serve:
    """Serve's REST interface while it shuts down, as Ray 2.60 answers: its applications are being deleted for
    some looks; then it knows none, and takes a config for some looks more that it forgets. After that a new
    Serve starts with the next config."""

    def __init__(self, deleting: int, forgets: int) -> None:
        self._deleting, self._forgets = deleting, forgets
        self._apps: dict[str, Any] = {}
        self.taken = 0

    def look(self) -> dict[str, Any]:
        if self._deleting:
            self._deleting -= 1
            return {"applications": {"assets": self._app("DELETING", None)}}
        self._forgets = max(0, self._forgets - 1)
        return {"applications": self._apps}

    def take(self, config: dict[str, Any]) -> None:
        self.taken += 1
        if not self._deleting and not self._forgets:
            self._apps = {app["name"]: self._app("RUNNING", app) for app in config["applications"]}

    @staticmethod
    def _app(status: str, config: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "status": status,
            "message": "",
            "deployments": {},
            "deployed_app_config": config,
        }


@contextmanager
def served(serve: Serve) -> Generator[Dashboard]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(json.dumps(serve.look()).encode())

        def do_PUT(self) -> None:
            serve.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Dashboard(f"http://127.0.0.1:{server.server_port}") as dashboard:
            yield dashboard
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("serve", "again"),
    [(Serve(0, 0), False), (Serve(5, 0), False), (Serve(0, 4), True), (Serve(3, 9), True)],
    ids=["no shutdown", "under way", "nearly over", "both"],
)
def test_a_shutdown_at_the_same_time_swallows_no_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve, *, again: bool
) -> None:
    """It is waited for; where it swallows the config all the same, that is said, and done again."""
    config = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())
    checked = Checked(tmp_path, config, {"assets": files(tmp_path)})
    monkeypatch.setattr(deploying, "check", lambda _: checked)
    monkeypatch.setattr(deploying, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(deploying, "VANISHED_S", 0.05)
    said = io.StringIO()
    with served(serve) as dashboard:
        deploying.deploy(tmp_path, dashboard, 30, Console(file=said))
        assert serve.look()["applications"]["assets"]["status"] == "RUNNING"
    assert (serve.taken > 1) == again == ("Deploying again" in said.getvalue())


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
