"""Settings: what is refused, where paths start, and what wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.config import PROJECT_ROOT, Settings


def test_paths_start_at_the_project_never_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ray worker's working directory is wherever Ray was started."""
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert settings.path(settings.output_dir) == PROJECT_ROOT / "output"
    assert settings.path(settings.state_dir) == PROJECT_ROOT / ".state"
    assert settings.path(tmp_path) == tmp_path


def test_tasks_in_flight_do_not_depend_on_what_runs_now() -> None:
    """With no replica running, a task must still start: it is what makes the deployment scale up."""
    assert Settings(min_replicas=0, max_replicas=3, slots=4).max_in_flight == 16


PATHS = [
    *("output_dir", "state_dir", "styles_file", "models_file", "palettes_dir"),
    *("matting_file", "upscalers_dir", "api_keys_file"),
    *("webhooks_file", "webhook_ca_file"),
]


def test_every_path_is_in_the_list_above() -> None:
    fields = Settings.model_fields.items()
    assert [name for name, field in fields if "Path" in str(field.annotation)] == PATHS


@pytest.mark.parametrize("name", PATHS)
def test_a_tilde_is_the_home_of_whoever_starts_the_service(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In arguments and in the environment, where no shell expands it. Other processes get the whole path:
    their home may be another."""
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv(f"ASSETS_{name.upper()}", "~/renders")
    for settings in (Settings(), Settings.model_validate({name: "~/renders"})):
        assert settings.path(getattr(settings, name)) == Path("/home/anna/renders")
        assert settings.model_dump(mode="json")[name] == "/home/anna/renders"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"slot": 3}, "slot"),
        ({"slots": 0}, "slots"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas must not exceed"),
        ({"output_dir": "out", "state_dir": "out/state"}, "below output_dir"),
        ({"allowed_hosts": ["*"]}, "needs api_keys_file"),
        ({"num_gpus": "some"}, "num_gpus"),
        ({"output_dir": "~nobody_of_this_name/x"}, "no home directory is known"),
        ({"cors_origins": ["*"]}, "needs api_keys_file"),
        ({"cors_origins": ["editor.example"]}, "is no origin"),
        ({"cors_origins": ["https://editor.example/"]}, "is no origin"),
        ({"trusted_proxies": ["proxy.example"]}, "trusted_proxies"),
        ({"output": "studio/art"}, "s3://bucket/prefix"),
        ({"output": "file:///srv/art", "output_redirect": True}, "name an object store"),
        ({"output": "file:///srv", "state_dir": "/srv/state"}, "below output_dir"),
    ],
)
def test_wrong_arguments_are_refused_by_name(args: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(args)


def test_finished_files_are_in_one_place() -> None:
    """A folder, by its path or its URL; or a bucket, which is no folder of any node."""
    there = {
        None: str(PROJECT_ROOT / "output"),
        "file:///srv/art": "/srv/art",
        "s3://studio/art/": "s3://studio/art",
    }
    for output, address in there.items():
        settings = Settings(output=output)
        assert settings.output_address == address
        assert (settings.output_folder is None) == address.startswith("s3:")


def test_redis_is_found_as_in_the_app_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `REDIS_URL`; what it holds must go some day, since it lies in memory."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost:6379/0")
    with pytest.raises(ValidationError, match=r"retention_days is not.*ASSETS_RETENTION_DAYS"):
        Settings()
    monkeypatch.setenv("ASSETS_RETENTION_DAYS", "30")
    assert Settings().redis_url == "redis://localhost:6379/0"
    assert Settings(redis_url="redis://other").redis_url == "redis://other"
    with pytest.raises(ValidationError, match="redis_prefix"):
        Settings(redis_prefix="two words")


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSETS_SLOTS", "7")
    monkeypatch.setenv("ASSETS_ALLOWED_HOSTS", "art.example, localhost")
    assert Settings().slots == 7
    assert Settings(slots=2).slots == 2
    assert Settings().allowed_hosts == ["art.example", "localhost"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"pools": {"a": {"models": ["x"]}, "b": {"models": ["x"]}}},
            "'x' is in two pools, 'a' and",
        ),
        ({"pools": {"a": {"models": ["x", "y", "x"]}}}, "pool 'a' has model 'x' twice"),
        ({"pools": {"a": {"models": ["x"], "weights_share": 1.5}}}, "weights_share"),
        ({"pools": {"a": {"models": []}}}, "at least 1 item"),
        ({"pools": {"Big Ones": {"models": ["x"]}}}, "'Big Ones' is no name of a pool: a-z"),
        ({"pools": {"a": {"models": ["x"], "slot": 3}}}, "slot"),
        ({"pools": {"a": {"models": ["x"], "min_replicas": 2}}}, "pools.a: min_replicas"),
        ({"pools": {"a": {"models": ["x"], "num_gpus": 1.5}}}, "pools.a: num_gpus is a share"),
        ({"num_gpus": 2.5}, "num_gpus is a share of one GPU, or a whole number of them, not 2.5"),
        ({"num_gpus": -1}, "num_gpus is a share"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(given)
