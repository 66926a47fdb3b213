"""Where a job store is kept: what is unfit is told before anything starts, and no password is shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from serve_app.cluster.checks import CannotServe, servable
from serve_app.cluster.keepers import (
    keeper_of,
    refuse_unfit_redis,
    refuse_used_redis,
    store_name,
)
from serve_app.cluster.registry_port import _why_not_started
from serve_app.config import Settings
from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.store.directory import Directory
from tests.redis_server import redis_server


def settings(url: str | None, folder: Path, **more: object) -> Settings:
    given = {"redis_url": url, "retention_days": 1, "state_dir": folder / "state", **more}
    return Settings.model_validate(given)


def lost(why: str) -> None:
    raise AssertionError(why)


def test_a_name_of_the_store_has_no_password(tmp_path: Path) -> None:
    there = settings("redis://:s3cret@art.example:7000/2", tmp_path, redis_prefix="b")
    assert store_name(there) == "redis://art.example:7000/2 b"
    assert store_name(settings(None, tmp_path)) == str(tmp_path / "state")


def test_the_settings_say_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    here = keeper_of(settings(None, tmp_path), lost)
    assert isinstance(here, Directory)
    here.release()
    with redis_server(tmp_path / "redis") as server:
        at_redis = settings(server.url, tmp_path, redis_prefix="b")
        there = keeper_of(at_redis, lost)
        assert there.path.is_relative_to(tmp_path / "state")
        with pytest.raises(StoreHeld, match=r"'b' at .* is in use by process"):
            refuse_used_redis(at_redis, server.url)
        refuse_used_redis(settings(server.url, tmp_path), server.url)
        refuse_unfit_redis(at_redis)
        there.release()
        refuse_used_redis(at_redis, server.url)
        assert {name.partition(":")[0] for name in server.names()} == {"b"}


def test_an_unfit_server_is_refused_before_anything_is_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["test"])
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        server.client.config_set("appendfsync", "everysec")
        given = settings(server.url, tmp_path)
        with pytest.raises(CannotServe, match="CONFIG SET appendfsync always"):
            servable(given)
        assert server.names() == set()
    with pytest.raises(CannotServe, match="keeps nothing now"):
        servable(given)
    with pytest.raises(ConfigError, match="keeps nothing now"):
        refuse_used_redis(given, server.url)


def test_whoever_deploys_is_told_why_a_registry_cannot_open_its_store() -> None:
    cause = ConfigError("Redis at x may lose jobs")
    trace = "Traceback ...\nserve_app.errors.ConfigError: Redis at x may lose jobs"
    error = _why_not_started(ActorDiedError(RayTaskError("Registry.__init__", trace, cause)))
    assert isinstance(error, ConfigError)
    assert error.detail == "Redis at x may lose jobs"
