"""Which servers are fit for a store: each that is not is refused with what to change, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.errors import ConfigError
from serve_app.jobs.store.redis_link import DEMANDED, RedisLink, StoreAway
from tests.jobs.store.opens import Opens
from tests.redis_server import RedisServer, free_port, redis_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server whose settings tests change, and change back."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def refused(url: str, folder: Path, prefix: str = "assets") -> str:
    with pytest.raises(ConfigError) as caught:
        Opens(folder, url, prefix)()
    return caught.value.detail


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
def test_a_server_that_may_lose_what_it_confirmed_is_refused(
    server: RedisServer, tmp_path: Path, setting: str, wrong: str
) -> None:
    server.client.config_set(setting, wrong)
    said = refused(server.url, tmp_path, setting)
    server.client.config_set(setting, DEMANDED[setting])
    assert f"{setting} is {wrong}: CONFIG SET {setting} {DEMANDED[setting]}" in said
    assert not [key for key in server.names() if key.startswith(setting)]


def test_every_setting_that_is_wrong_is_named_at_once(server: RedisServer, tmp_path: Path) -> None:
    server.client.config_set("appendfsync", "no")
    server.client.config_set("maxmemory-policy", "volatile-ttl")
    said = refused(server.url, tmp_path)
    server.client.config_set("appendfsync", "always")
    server.client.config_set("maxmemory-policy", "noeviction")
    assert "appendfsync is no" in said
    assert "maxmemory-policy is volatile-ttl" in said
    assert "appendonly" not in said


async def test_a_server_that_tells_nobody_its_settings_must_be_vouched_for(
    server: RedisServer, tmp_path: Path
) -> None:
    """As of many that are rented: CONFIG is forbidden there."""
    server.client.acl_setuser(
        "tenant", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-config"]
    )
    url = server.url.replace("//", "//tenant:pw@")
    said = refused(url, tmp_path)
    assert "forbids CONFIG GET" in said
    assert "appendfsync is always" in said
    assert "redis_vouched: true" in said
    store = Opens(tmp_path, url, "vouched")(vouched=True)
    assert store.epoch == 1
    await store.close()
    assert "pw" not in said


async def test_a_wrong_password_is_said_and_never_shown(
    server: RedisServer, tmp_path: Path
) -> None:
    server.client.config_set("requirepass", "right")
    server.client.execute_command("AUTH", "right")
    try:
        for url in (server.url, server.url.replace("//", "//:s3cret@")):
            said = refused(url, tmp_path)
            assert "refuses the password or user of REDIS_URL" in said
            assert f"127.0.0.1:{server.port}/0" in said
            assert "s3cret" not in said
        store = Opens(tmp_path, server.url.replace("//", "//:right@"), "password")()
        await store.close()
    finally:
        server.client.config_set("requirepass", "")


def test_a_replica_is_refused(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    follows = {"replicaof": f"127.0.0.1 {server.port}"}
    with redis_server(tmp_path / "replica", **follows) as replica:
        assert "is a replica: name the server that it follows" in refused(replica.url, tmp_path)


def test_a_server_of_a_cluster_is_refused(tmp_path: Path) -> None:
    clustered = {"cluster_enabled": "yes", "cluster_port": str(free_port())}
    with redis_server(tmp_path, **clustered) as server:
        assert "is in cluster mode" in refused(server.url, tmp_path / "state")
        assert server.names() == set()


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        url = server.url
    with pytest.raises(
        StoreAway, match=rf"Redis at 127\.0\.0\.1:{server.port}/0 keeps nothing now"
    ):
        Opens(tmp_path / "state", url)()


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://host:port/0"])
def test_what_is_no_address_is_said(tmp_path: Path, url: str) -> None:
    assert "REDIS_URL" in refused(url, tmp_path)


@pytest.mark.parametrize("key", ["store", "pages", "changed", "lease"])
def test_keys_of_somebody_else_are_named_and_left_alone(
    server: RedisServer, tmp_path: Path, key: str
) -> None:
    """Under our very names; a list, or a hash that does not say that it is ours."""
    prefix = f"taken-{key}"
    server.client.rpush(f"{prefix}:{key}", "theirs")
    assert f"{prefix}:{key} is a list" in refused(server.url, tmp_path, prefix)
    assert server.client.lrange(f"{prefix}:{key}", 0, -1) == [b"theirs"]
    server.client.delete(f"{prefix}:{key}")
    if key != "changed":
        server.client.hset(f"{prefix}:pages", "1", "theirs")
        assert f"{prefix}:pages is there" in refused(server.url, tmp_path, prefix)
        server.client.hset(f"{prefix}:store", "format", "theirs")
        assert "has the format 'theirs'" in refused(server.url, tmp_path, prefix)
        assert server.client.hgetall(f"{prefix}:store") == {b"format": b"theirs"}


async def test_another_applications_keys_are_never_touched(tmp_path: Path) -> None:
    """As of the app that this service replaces: Celery's queue and results, in the same database."""
    with redis_server(tmp_path) as server:
        theirs = server.client
        theirs.lpush("celery", "an order")
        theirs.set("celery-task-meta-1", "a result")
        theirs.hset("unacked", "1", "x")
        before = {key: theirs.dump(key) for key in theirs.keys("*")}
        store = Opens(tmp_path / "state", server.url)()
        await store.swept()
        await store.close()
        assert {key: theirs.dump(key) for key in before} == before
        ours = server.names() - {key.decode() for key in before}
        assert ours == {"assets:store", "assets:pages", "assets:changed"}


def test_the_package_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(ConfigError, match=r"the extra `redis` first: pip install"):
        RedisLink("redis://localhost", "assets")
