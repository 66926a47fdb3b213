"""The id of an output folder: one for all, even if several processes give it at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serve_app.api.output import _SERVED
from serve_app.artifacts.identity import NAME, identify, identity_of


def test_all_who_ask_at_once_get_one_id(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(identify, [tmp_path] * 64))
    assert ids == {identity_of(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_what_is_there_counts_more_than_what_was_known(tmp_path: Path) -> None:
    assert identity_of(tmp_path) == ""
    assert identify(tmp_path, "known") == "known"
    assert identify(tmp_path, "other") == identity_of(tmp_path) == "known"


def test_the_id_is_not_served() -> None:
    assert not _SERVED.fullmatch(NAME)
