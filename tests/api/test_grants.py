"""What a key may do is read from the words after it; requests are counted by the second."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serve_app.api.grants import Buckets, Grant, Rate, grant_of
from serve_app.api.keys import ApiKeys, add_key, grant_keys, list_keys
from serve_app.errors import ConfigError

FULL = "scopes=read,admin rate=600/min waiting_jobs=500 device_seconds=3600 kept_bytes=10GB"


def test_a_key_without_words_reads_and_orders_without_a_limit() -> None:
    """As every key of an older file."""
    grant = grant_of("")
    assert grant == Grant()
    assert (grant.scopes, grant.rate, grant.quota) == ({"read", "order"}, None, {})
    assert grant.words == ""


def test_every_word_is_understood_and_can_be_written_again() -> None:
    grant = grant_of(FULL)
    assert grant.scopes == {"read", "admin"}
    assert grant.rate == Rate(600, 60)
    assert grant.quota == {"waiting_jobs": 500, "device_seconds": 3600, "kept_bytes": 10**10}
    assert grant_of(grant.words) == grant
    assert grant_of("kept_bytes=1.5MB").quota == {"kept_bytes": 1_500_000}
    assert grant_of("waiting_jobs=0").quota == {"waiting_jobs": 0}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("scopes=root", "read, order, admin"),
        ("scopes=", "read, order, admin"),
        ("scopes=read, order", "read, order, admin"),
        ("rate=0/s", "not 0"),
        ("rate=10", "10/s"),
        ("rate=-1/s", "10/s"),
        ("rate=1/day", "10/s"),
        ("waiting_jobs=-1", "whole numbers"),
        ("waiting_jobs=many", "whole numbers"),
        ("waiting_jobs=", "whole numbers"),
        ("device_seconds=1e3", "whole numbers"),
        ("device_seconds=inf", "whole numbers"),
        ("kept_bytes=10GiB", "10GB"),
        ("kept_bytes=ten", "10GB"),
        ("rate=1/s rate=2/s", "twice"),
        ("quota=7", "none of scopes"),
        ("s3cret-key-in-the-wrong-place", "none of scopes"),
    ],
)
def test_what_is_not_understood_is_refused_and_says_what_would_be(
    tmp_path: Path, words: str, told: str
) -> None:
    path = tmp_path / "keys"
    with pytest.raises(ConfigError) as refused:
        add_key(path, "anna", words)
    assert told in refused.value.detail
    assert not path.exists()
    path.write_text(f"anna:{'0' * 64} {words}\n")
    with pytest.raises(ConfigError) as refused:
        ApiKeys.load(path)
    assert "keys:1: " in refused.value.detail
    assert told in refused.value.detail
    assert "s3cret" not in refused.value.detail


def test_a_key_whose_words_are_wrong_may_do_nothing_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = [add_key(path, "anna", "scopes=read"), add_key(path, "ben")]
    path.write_text(path.read_text().replace("scopes=read", "scopes=raed"))
    found = ApiKeys.reload(path)
    assert [found.owner_of(key) for key in keys] == [None, "ben"]


def test_keys_are_granted_other_things(tmp_path: Path) -> None:
    """All of an owner, or one; remarks and other lines stay."""
    path = tmp_path / "keys"
    first, second = add_key(path, "anna", FULL), add_key(path, "anna")
    add_key(path, "ben")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["# ours", f"{lines[0]}  # build server", *lines[1:]]) + "\n")
    digest = hashlib.sha256(second.encode()).hexdigest()
    assert grant_keys(path, "anna", "scopes=read rate=5/s", digest[:8]) == 1
    assert [grant.words for _, _, grant in list_keys(path)] == [
        grant_of(FULL).words,
        "scopes=read rate=5/s",
        "",
    ]
    assert grant_keys(path, "anna", "") == 2
    assert [grant for _, _, grant in list_keys(path)] == [Grant()] * 3
    assert path.read_text().splitlines()[:2] == ["# ours", f"{lines[0].split()[0]}  # build server"]
    assert ApiKeys.load(path).owner_of(first) == "anna"
    with pytest.raises(ConfigError, match="has no key"):
        grant_keys(path, "carl", "")


def test_requests_beyond_the_rate_wait_for_their_turn() -> None:
    now = 100.0
    buckets = Buckets(lambda: now)
    rate = Rate(2, 60)
    assert [buckets.take("a", rate) for _ in range(3)] == [None, None, 30.0]
    assert buckets.take("b", rate) is None, "each key has its own"
    now += 29
    assert buckets.take("a", rate) == pytest.approx(1.0)
    now += 1
    assert buckets.take("a", rate) is None
    now += 10_000
    assert [buckets.take("a", rate) for _ in range(3)] == [None, None, 30.0], "no more at once"
    assert buckets.take("a", Rate(1, 1)) is None, "a rate that was changed counts from new"


@pytest.mark.parametrize("size", ["1000TB", "999999999999999TB", "0.001kB"])
def test_what_is_written_for_a_size_is_read_again(size: str) -> None:
    grant = grant_of(f"kept_bytes={size}")
    assert grant_of(grant.words) == grant
