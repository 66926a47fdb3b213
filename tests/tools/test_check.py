"""What can be known to be wrong before Ray starts is said in one line, with its file and where it stands."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.tools.check import check, folder_problem
from serve_app.tools.own_ray import refuse_held_state
from serve_app.webhooks.owners import add_secret, set_url

# Ray 2.60 declares its options in a way that pydantic 2 has a word on, once, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning")


def write(
    directory: Path, *, http: dict[str, Any] | None = None, name: str = "assets", **args: Any
) -> Path:
    """The laptop's config with other arguments, in files of its own."""
    config = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())
    config["http_options"] |= http or {}
    config["applications"][0]["name"] = name
    folders = {"output_dir": str(directory / "output"), "state_dir": str(directory / "state")}
    config["applications"][0]["args"] |= folders | args
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def assets_run(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve_app", "run", str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def said(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(path)
    return caught.value.detail.splitlines()


def at(path: Path, key: str) -> str:
    """`file:line` of a key of the config."""
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.strip().startswith(f"{key}:"))
    return f"{path}:{number}: "


def broken(directory: Path, file: str, old: str, new: str) -> str:
    """A copy of one of the project's own files with one change."""
    text = (PROJECT_ROOT / "configs" / file).read_text()
    assert old in text
    (directory / file).write_text(text.replace(old, new, 1))
    return str(directory / file)


def test_a_good_config_is_told_with_where_it_will_listen(tmp_path: Path) -> None:
    checked = check(write(tmp_path, http={"port": 8123}))
    assert (checked.host, checked.port) == ("127.0.0.1", 8123)
    assert checked.settings["assets"].state_dir == tmp_path / "state"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("setting", "file", "old", "new"),
    [
        ("models_file", "models.yaml", "native_size:", "native_sise:"),
        ("styles_file", "styles.yaml", "title:", "tittle:"),
    ],
)
def test_a_typo_in_a_file_of_the_config_has_the_line_of_that_file(
    tmp_path: Path, setting: str, file: str, old: str, new: str
) -> None:
    args: dict[str, Any] = {setting: broken(tmp_path, file, old, new)}
    path = write(tmp_path, **args)
    (line,) = (each for each in said(path) if "did you mean" in each)
    assert line.startswith(f"{tmp_path / file}:")


def test_missing_weights_are_named_with_the_line_that_asks_for_them(tmp_path: Path) -> None:
    models = broken(tmp_path, "models.yaml", "path: serve_app/starter/weights", "path: nowhere")
    path = write(tmp_path, models_file=models, model="starter")
    assert said(path) == [f"{at(path, 'model')}model: model 'starter': nowhere is not a directory"]


def test_a_truncated_checkpoint_is_found_before_a_renderer_tries_it(tmp_path: Path) -> None:
    shutil.copytree(PROJECT_ROOT / "serve_app/starter/weights", tmp_path / "weights")
    network = tmp_path / "weights/unet/diffusion_pytorch_model.safetensors"
    network.write_bytes(network.read_bytes()[:1000])
    models = broken(
        tmp_path, "models.yaml", "path: serve_app/starter/weights", f"path: {tmp_path}/weights"
    )
    (line,) = said(write(tmp_path, models_file=models))
    assert "unet/diffusion_pytorch_model.safetensors" in line
    assert "copy it again" in line


def test_other_hosts_are_not_let_in_without_keys(tmp_path: Path) -> None:
    path = write(tmp_path, http={"host": "0.0.0.0"})
    (line,) = said(path)
    assert line.startswith(at(path, "host"))
    assert "without api_keys_file" in line


def test_missing_keys_are_told_with_the_command_that_makes_them(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    path = write(tmp_path, http={"host": "0.0.0.0"}, api_keys_file=str(keys))
    (line,) = said(path)
    assert line.startswith(at(path, "api_keys_file"))
    assert f"`assets keys add OWNER --file {keys}`" in line
    keys.write_text(f"studio:{hashlib.sha256(b'key').hexdigest()}\n")
    assert check(path).host == "0.0.0.0"


def test_webhooks_that_could_not_be_sent_are_told(tmp_path: Path) -> None:
    """A file that is missing, a URL in it that can never be called, certificates that are none."""
    hooks = tmp_path / "hooks.yaml"
    path = write(tmp_path, webhooks_file=str(hooks))
    (line,) = said(path)
    assert line.startswith(at(path, "webhooks_file"))
    assert f"`assets webhooks add OWNER --file {hooks}`" in line
    add_secret(hooks, "studio")
    check(path)
    set_url(hooks, "studio", "https://10.1.2.3/hook", ("completed",))
    (line,) = said(path)
    assert "of studio: leads to an address that is not public" in line
    check(write(tmp_path, webhooks_file=str(hooks), webhook_networks=["10.1.0.0/16"]))
    path = write(tmp_path, webhook_ca_file=str(hooks))
    (line,) = said(path)
    assert line.startswith(at(path, "webhook_ca_file"))


def test_an_application_of_another_name_is_refused(tmp_path: Path) -> None:
    """A job task finds the renderer by `app_name`."""
    path = write(tmp_path, name="pictures")
    (line,) = said(path)
    assert "args need `app_name: pictures`" in line


def test_weights_of_effects_are_looked_for(tmp_path: Path) -> None:
    """A file that is missing, and a folder that has no model."""
    missing, empty = tmp_path / "no.onnx", tmp_path / "empty"
    empty.mkdir()
    path = write(tmp_path, matting_file=str(missing), upscalers_dir=str(empty))
    assert said(path) == [
        f"{at(path, 'matting_file')}matting_file: {missing}: there is no such file",
        f"{at(path, 'upscalers_dir')}upscalers_dir: {empty}: has no .safetensors file",
    ]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        name="pictures",
        http={"host": "0.0.0.0"},
        styles_file=broken(tmp_path, "styles.yaml", "title:", "tittle:"),
        model="sdx",
    )
    assert len(said(path)) == 4


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_problem(tmp_path / "new/folder") is None
    assert folder_problem(tmp_path / "file/folder") == f"{tmp_path / 'file'} is not a folder"
    problem = folder_problem(Path("/proc/assets"))
    assert problem is not None
    assert problem.startswith("/proc cannot be written")
    assert problem.endswith("; name another folder")


def test_a_command_that_cannot_start_says_one_paragraph(tmp_path: Path) -> None:
    """`assets run` ends with it, and with nothing else: no traceback, and no Ray was started."""
    path = write(tmp_path, model="sdx")
    done = assets_run(path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"assets: {at(path, 'model')}model: model 'sdx' is not in the models file"
    )


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        path = write(tmp_path, http={"port": port})
        done = assets_run(path)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in done.stderr


async def test_a_state_in_use_is_named_with_who_has_it(tmp_path: Path) -> None:
    """Also by a service of another checkout; nothing is started."""
    store = SqliteStore(tmp_path / "state")
    try:
        done = await asyncio.to_thread(assets_run, write(tmp_path, http={"port": 0}))
    finally:
        await store.close()
    assert done.returncode == 1
    assert f"{tmp_path / 'state'} is in use by process {os.getpid()}" in done.stderr
    refuse_held_state(tmp_path / "state")
