"""assets doctor: what is wrong is found and said with what to do; what is right is said, too."""

from __future__ import annotations

import resource
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from serve_app.jobs.store.redis import RedisKeeper
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.tools import doctor
from serve_app.tools.doctor import Finding, examine
from tests.bucket import Bucket
from tests.cli.harness import run
from tests.cluster.service import free_port
from tests.redis_server import redis_server
from tests.scripted import Scripted

CONFIG = """\
applications:
  - name: assets
    import_path: serve_app.app:build
    args:
      state_dir: {state}
      output_dir: {output}
{more}"""


class Place(NamedTuple):
    """A machine to look at: its config, and the folders that this names."""

    config: Path
    state: Path
    output: Path

    def says(self, more: str = "") -> Place:
        self.config.write_text(CONFIG.format(state=self.state, output=self.output, more=more))
        return self

    def findings(self, server: httpx.BaseTransport | None = None) -> list[Finding]:
        """Without a server, nothing answers."""
        with httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", transport=server) as http:
            return [*examine(self.config, http)]

    def examine(self, server: httpx.BaseTransport | None = None) -> dict[str, Finding]:
        return {finding.what: finding for finding in reversed(self.findings(server))}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "serve.yaml", tmp_path / "state", tmp_path / "output")
    found.output.mkdir()
    return found.says()


def test_a_machine_where_all_is_well(place: Place) -> None:
    found = place.examine()
    assert [f for f in found.values() if f.level == "wrong"] == []
    assert {
        "config",
        "job store",
        "state_dir",
        "output_dir",
        "memory",
        "Ray's disk",
    } <= found.keys()
    assert found["service"].level == "note", "nothing runs, and nothing should"
    assert [*place.output.iterdir()] == [], "it leaves nothing behind"
    assert not place.state.exists()


async def test_a_store_that_is_used_wants_a_service_that_answers(place: Place) -> None:
    store = SqliteStore(place.state)
    found = place.examine()
    assert "0 jobs, 0 not ended, used by process" in found["job store"].said
    assert found["service"].level == "wrong"
    assert "assets deploy --status" in found["service"].advice
    await store.close()
    assert "used by nobody" in place.examine()["job store"].said


def test_a_damaged_store(place: Place) -> None:
    place.state.mkdir()
    (place.state / "jobs.db").write_bytes(b"SQLite no more" * 100)
    found = place.examine()["job store"]
    assert found.level == "wrong"
    assert "restore" in found.advice


async def test_a_store_in_redis(place: Place, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        place.says(f"      redis_url: {server.url}\n      retention_days: 30\n")
        assert "none yet in Redis" in place.examine()["job store"].said
        store = SqliteStore(RedisKeeper(server.url, place.state))
        found = place.examine()
        assert "used by process" in found["job store"].said
        assert found["Redis's memory"].level == "ok"
        assert found["service"].level == "wrong", "a registry runs, and nothing answers"
        await store.close()
        server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] + 2**16)
        found = place.examine()
        assert "used by nobody" in found["job store"].said
        assert found["Redis's memory"].level == "wrong"
        server.client.config_set("appendfsync", "everysec")
        found = place.examine()["job store"]
        assert (found.level, "CONFIG SET appendfsync always" in found.said) == ("wrong", True)
    found = place.examine()["job store"]
    assert found.level == "wrong"
    assert "start Redis" in found.advice


def test_a_bucket(place: Place, bucket: Bucket) -> None:
    def said() -> tuple[str, str]:
        found = place.says(f"      output: {bucket.at('art')}\n").examine()["output"]
        return found.level, found.said

    assert said()[0] == "ok"
    bucket.adds.append(("x-amz-expiration", 'rule-id="tidy"'))
    assert (said()[0], "tidy" in said()[1]) == ("wrong", True)
    bucket.recover()
    bucket.says = 503
    assert (said()[0], "does not answer" in said()[1]) == ("wrong", True)
    bucket.recover()
    bucket.deny()
    assert (said()[0], "refuses these keys" in said()[1]) == ("wrong", True)


def test_a_mistake_in_the_config_does_not_end_it(place: Place) -> None:
    place.says("      modle: starter\n")
    found = place.examine()
    assert found["config"].level == "wrong"
    assert "modle" in found["config"].said
    assert "memory" in found


@pytest.mark.parametrize(
    ("setting", "mode", "level"),
    [
        ("webhooks_file", 0o640, "wrong"),
        ("webhooks_file", 0o600, "ok"),
        ("api_keys_file", 0o662, "wrong"),
        ("api_keys_file", 0o644, "ok"),
    ],
)
def test_files_of_secrets(place: Place, setting: str, mode: int, level: str) -> None:
    path = place.config.with_name(setting)
    args = ("webhooks", "add") if setting == "webhooks_file" else ("keys", "add")
    assert run(*args, "studio", "--file", str(path)) == 0
    path.chmod(mode)
    place.says(f"      {setting}: {path}\n")
    assert place.examine()[setting].level == level


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, "wrong"), (5.0, "note"), (50.0, "ok")])
def test_a_disk_that_fills(
    place: Place, monkeypatch: pytest.MonkeyPatch, free_gib: float, level: str
) -> None:
    usage = shutil.disk_usage(place.output)
    total = int(max(usage.total, 60 * doctor.GIB))
    some = usage._replace(total=total, free=int(free_gib * doctor.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: some)
    found = place.examine()
    assert (found["output_dir"].level, found["state_dir"].level) == (level, level)
    assert found["Ray's disk"].level == (
        "wrong" if free_gib / (total / doctor.GIB) < 0.05 else "ok"
    )


def test_an_output_that_cannot_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems know no second names."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(doctor.os, "link", link)
    found = place.examine()["output_dir"]
    assert found.level == "wrong"
    assert "Operation not permitted" in found.said


def test_limits_of_this_machine(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 65536))
    monkeypatch.setattr(doctor, "_memory", lambda: doctor.GIB)
    monkeypatch.setattr(doctor, "_file_system", lambda _: "nfs4")
    found = place.examine()
    assert "ulimit -n 65536" in found["descriptors"].advice
    assert found["memory"].level == "note"
    assert found["state_dir"].said.endswith("network file system (nfs4)")


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount() -> None:
    assert doctor._file_system(Path("/proc/self/status")) == "proc"
    assert doctor._file_system(Path("/sys/no/such/file")) == "sysfs"


def test_a_cluster_that_was_killed_left_its_address(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "ray").mkdir()
    note = tmp_path / "ray" / "ray_current_cluster"
    note.write_text(f"127.0.0.1:{free_port()}")
    assert place.examine()["Ray's address"].advice == f"rm {note}"


def test_a_service_that_is_not_ready_says_why(place: Place) -> None:
    away = httpx.Response(503, json={"detail": "no node offers 1 GPU"})
    found = place.examine(Scripted(away, httpx.Response(503)))["service"]
    assert found.level == "wrong"
    assert found.said.endswith("would not serve a job: no node offers 1 GPU")


def test_another_program_at_that_address(place: Place) -> None:
    answers = httpx.Response(404, json=[]), httpx.Response(404, json=[])
    assert "answers with 404" in place.examine(Scripted(*answers))["service"].said


def test_a_service_of_another_release_and_another_time(place: Place) -> None:
    past = httpx.Response(200, headers={"Date": "Fri, 27 Nov 2020 10:00:00 GMT"})
    found = place.examine(Scripted(past, httpx.Response(200, json={"info": {"version": "0.0.1"}})))
    assert found["service"].level == "ok"
    assert "release 0.0.1" in found["release"].said
    assert "-" in found["clock"].said


def test_the_command(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    assert run("doctor", str(place.config), "--server", server) == 0
    said = capsys.readouterr().out
    assert "ok     config: " in said
    assert "note   service: nothing answers" in said
    place.says("      modle: starter\n")
    assert run("doctor", str(place.config), "--server", server) == 1
    assert "WRONG  config: " in capsys.readouterr().out
