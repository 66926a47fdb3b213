"""`assets run` and `assets deploy` on a real Ray: where it listens, how it ends, and what a deploy brings."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
import yaml
from PIL import Image

from serve_app.api.keys import add_key

from .service import ROOT, answer_to_all_of, free_port, wait_until
from .test_cli import AT_ONCE, BIN, answers, config_file, draws, order, running

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
ASSETS = [sys.executable, "-m", "serve_app"]
CODE = ("serve_app", "configs", "pyproject.toml", "serve_config.yaml")


def bare_environment() -> dict[str, str]:
    """Without Ray's variables."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return env | {"RAY_worker_niceness": "0"}


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """A checkout in a folder of a name that a shell would take apart, with a Python of its own there."""
    folder = tmp_path / "mein Ordner ü"
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    (packages,) = (folder / ".venv/lib").glob("python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    return folder


def listening(processes: list[psutil.Process]) -> dict[tuple[str, int], str]:
    """Address and port -> name, of everything that takes connections."""
    found: dict[tuple[str, int], str] = {}
    for process in processes:
        try:
            for socket in process.net_connections("tcp"):
                if socket.status == psutil.CONN_LISTEN:
                    address, port = socket.laddr
                    found[address.removeprefix("::ffff:"), port] = process.name()
        except psutil.NoSuchProcess:
            continue  # a worker that was idle
    return found


def test_the_service_on_one_machine(
    odd_folder: Path, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    """From a folder with a space and an umlaut, with no home directory, in a shell that names a cluster that
    is gone: it draws, listens on loopback and nowhere else, asks for a token, says little, and ends at
    SIGTERM without leaving a process."""
    port = free_port()
    config = config_file(tmp_path, port, tiny_settings)
    env = {**bare_environment(), "PYTHONPATH": str(odd_folder), "RAY_AUTH_TOKEN": "a" * 64}
    env["RAY_ADDRESS"] = "127.0.0.1:1"  # of a cluster that is gone
    del env["HOME"]
    log = tmp_path / "log.txt"
    command = [str(odd_folder / ".venv/bin/python"), "-m", "serve_app", "run", str(config)]
    with running(command, env, log) as service:
        wait_until(
            lambda: "Serving:" in log.read_text() or service.poll() is not None, 180, "it serves"
        )
        assert service.poll() is None, log.read_text()
        assert draws(port, order(port))
        family = psutil.Process(service.pid).children(recursive=True)
        (registry,) = [p for p in family if "ray::Registry" in " ".join(p.cmdline())]
        assert registry.environ()["PYTHONPATH"] == str(odd_folder)
        ports = listening([psutil.Process(service.pid), *family])
        assert ("127.0.0.1", port) in ports
        assert {address for address, _ in ports} == {"127.0.0.1"}, ports
        told = httpx.get(f"http://127.0.0.1:{port}/v1/capabilities").json()["dashboard"]
        assert told == f"127.0.0.1:{dashboard_of(ports)}"
        dashboard = f"http://{told}/api/version"
        assert httpx.get(dashboard).status_code == 401
        bearer = {"Authorization": f"Bearer {env['RAY_AUTH_TOKEN']}"}
        assert httpx.get(dashboard, headers=bearer).status_code == 200
        service.terminate()
        assert service.wait(60) == 0
        _, left = psutil.wait_procs(family, timeout=20)
        assert [p.cmdline() for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
    told = log.read_text()
    assert "Stopped." in told
    assert "\x1b" not in told
    assert len(told.splitlines()) < 15, told


def dashboard_of(ports: dict[tuple[str, int], str]) -> int:
    """The dashboard takes 8265, or the next free port."""
    return min(port for _, port in ports if 8265 <= port < 8300)


def test_the_demo_shows_a_picture_and_ends(tmp_path: Path) -> None:
    """With the starter model of the project. A transparent picture stays, its pixel version, and a
    sheet whose JSON names both."""
    env = {**bare_environment(), "ASSETS_OUTPUT_DIR": str(tmp_path / "output")}
    command = [sys.executable, "-m", "serve_app.tools.demo", "a golden key"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = [line.partition(": ") for line in done.stdout.splitlines() if str(tmp_path) in line]
    kept = [Path(path) for _, _, path in told]
    assert [what for what, _, _ in told] == [
        "Picture, cut out",
        "In pixels",
        *("Sheet of both",) * 2,
    ]
    sizes = dict[str, tuple[int, int]]()
    for path in kept[:3]:
        with Image.open(path) as picture:
            assert picture.mode == "RGBA"
            assert picture.getchannel("A").getextrema() == (0, 255)
            sizes[path.stem] = picture.size
    assert max(sizes["a_golden_key_7_pixel"]) <= 32
    frames = json.loads(kept[3].read_text())["frames"]
    assert {
        name: (frame["sourceSize"]["w"], frame["sourceSize"]["h"]) for name, frame in frames.items()
    } == {name: sizes[name] for name in ("a_golden_key_7", "a_golden_key_7_pixel")}
    assert "Traceback" not in done.stdout + done.stderr


class Cluster(NamedTuple):
    """`ray start --head`, with a token, and what a shell needs to deploy on it."""

    config: Path
    port: int
    env: dict[str, str]

    def assets(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ASSETS, *args], cwd=ROOT, env=self.env, capture_output=True, text=True
        )

    def styles(self) -> set[str]:
        reply = httpx.get(f"http://127.0.0.1:{self.port}/v1/styles", timeout=30).json()
        return {style["style_id"] for style in reply["results"]}

    @contextlib.contextmanager
    def shutdown(self) -> Generator[None]:
        """`serve shutdown` is under way when the block begins."""
        bearer = {"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}
        url = f"{self.env['RAY_DASHBOARD_ADDRESS']}/api/serve/applications/"
        ask = functools.partial(httpx.delete, url, headers=bearer, timeout=90)
        shutting = threading.Thread(target=ask)
        shutting.start()
        yield
        shutting.join()

    def change(self, **args: Any) -> Path:
        """The config with other arguments, as another file."""
        config = yaml.safe_load(self.config.read_text())
        config["applications"][0]["args"] |= args
        path = self.config.with_name("changed.yaml")
        path.write_text(yaml.safe_dump(config))
        return path


@pytest.fixture
def cluster(tmp_path: Path, tiny_settings: dict[str, Any]) -> Iterator[Cluster]:
    port, gcs, dashboard = free_port(), free_port(), free_port()
    styles = tmp_path / "styles.yaml"
    shutil.copy(tiny_settings["styles_file"], styles)
    config = config_file(tmp_path, port, {**tiny_settings, "styles_file": str(styles)})
    env = {**bare_environment(), "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as temp:
        head = [
            *[str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"],
            *[f"--port={gcs}", f"--dashboard-port={dashboard}", f"--temp-dir={temp}"],
            *["--num-cpus=4", "--object-store-memory=100000000", "--include-dashboard=true"],
        ]
        with running(head, {**env, **AT_ONCE, "RAY_AUTH_MODE": "token"}, tmp_path / "log.txt"):
            address = f"http://127.0.0.1:{dashboard}"
            version = f"{address}/api/version"
            wait_until(lambda: answers(version, env["RAY_AUTH_TOKEN"]), 120, "the dashboard")
            yield Cluster(config, port, {**env, "RAY_DASHBOARD_ADDRESS": address})


def stamps(status: str) -> dict[str, str]:
    """Process -> the stamp it was started with, from the output of `assets deploy`."""
    rows = [line.split() for line in status.splitlines() if "ALIVE" in line]
    return {name: stamp for name, _, _, _, stamp in rows}


def test_a_deploy_brings_what_is_on_disk_or_says_why_not(cluster: Cluster, tmp_path: Path) -> None:
    """The shell has a token and no RAY_AUTH_MODE. A wrong config deploys nothing; changed styles do reach the
    service, though the config is the same; what fails on the cluster is told in one paragraph."""
    wrong = cluster.assets("deploy", str(cluster.change(api_keys_file=str(tmp_path / "keys"))))
    assert wrong.returncode == 1
    assert "api_keys_file: there is no" in wrong.stderr
    assert "Nothing is deployed." in cluster.assets("deploy", "--status").stdout

    first = cluster.assets("deploy", str(cluster.config))
    assert first.returncode == 0, first.stderr
    assert draws(cluster.port, order(cluster.port))
    assert cluster.styles() == {"none", "icon"}
    styles = tmp_path / "styles.yaml"
    styles.write_text(styles.read_text() + "  fresh: {title: Fresh, template: '{prompt} fresh'}\n")
    second = cluster.assets("deploy", str(cluster.config))
    assert second.returncode == 0, second.stderr
    assert cluster.styles() == {"none", "icon", "fresh"}
    before, after = stamps(first.stdout), stamps(second.stdout)
    assert before.keys() == after.keys() == {"Ingress", "Renderer", "assets-registry"}
    assert before["Ingress"] == before["Renderer"] == before["assets-registry"] != "?"
    assert after["Ingress"] == after["Renderer"] != before["Ingress"]
    assert after["assets-registry"] == before["assets-registry"]  # it goes on, with its code

    moved = cluster.assets("deploy", str(cluster.change(state_dir=str(tmp_path / "other"))))
    assert moved.returncode == 1
    assert "this Ray cluster already serves an application 'assets'" in moved.stderr
    assert "Traceback" not in moved.stderr
    assert draws(cluster.port, order(cluster.port))

    elsewhere = yaml.safe_load(cluster.config.read_text())
    elsewhere["http_options"]["port"] += 1
    (tmp_path / "elsewhere.yaml").write_text(yaml.safe_dump(elsewhere))
    refused = cluster.assets("deploy", str(tmp_path / "elsewhere.yaml"))
    assert refused.returncode == 1
    assert "Serve keeps the address of its first deploy" in refused.stderr

    order(cluster.port, steps=900, n=30)  # so that the shutdown takes its time
    with cluster.shutdown():
        again = cluster.assets("deploy", str(cluster.config))
    assert again.returncode == 0, again.stderr
    assert draws(cluster.port, order(cluster.port))


def test_haproxy_stands_in_front_where_others_may_come_in(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    """With keys, and listening on more than loopback. Jobs are ordered and drawn through it, with a key."""
    key = add_key(tmp_path / "keys", "studio")
    port = free_port()
    path = config_file(tmp_path, port, tiny_settings | {"api_keys_file": str(tmp_path / "keys")})
    config = yaml.safe_load(path.read_text())
    config["http_options"]["host"] = "0.0.0.0"
    path.write_text(yaml.safe_dump(config))
    env = {**bare_environment(), "PYTHONPATH": str(ROOT), "RAY_AUTH_TOKEN": "a" * 64}
    log = tmp_path / "log.txt"
    headers = {"Authorization": f"Bearer {key}"}
    with (
        running([*ASSETS, "run", str(path)], env, log) as service,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http,
    ):
        wait_until(lambda: "Serving:" in log.read_text() or service.poll() is not None, 180)
        assert service.poll() is None, log.read_text()
        family = psutil.Process(service.pid).children(recursive=True)
        assert "haproxy" in {process.name() for process in family}
        wait_until(lambda: http.get("/healthz").status_code == 200, 60, "HAProxy knows the replica")
        assert httpx.get(f"{http.base_url}/v1/jobs").status_code == 401
        refused = answer_to_all_of(port, 40_000_000, f"Authorization: Bearer {key}")
        assert b'"code":"body_too_large"' in refused
        job = http.post("/v1/generate", json={"prompt": "a sword"}).json()
        wait_until(lambda: http.get(job["urls"]["self"]).json()["status"] == "SUCCESS", 90)
