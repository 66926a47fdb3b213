"""ObjectStorage: what a bucket can have wrong, said in words; and what passes."""

from __future__ import annotations

import logging

import httpx
import pytest

from serve_app.artifacts import objects
from serve_app.artifacts.folder import OutputDir, output_at
from serve_app.artifacts.objects import ObjectStorage, refuse_unfit
from serve_app.errors import ConfigError, StorageFailed
from serve_app.object_address import ObjectAddress
from tests.artifacts.pictures import JOB, PARAMS, rendered
from tests.bucket import Bucket


@pytest.fixture
def output(bucket: Bucket) -> OutputDir:
    return output_at(bucket.at("faults"))


def address(bucket: Bucket, name: str = "") -> ObjectAddress:
    return ObjectAddress.parse(bucket.at("start", name))


# ---- at the start ----


def test_a_bucket_that_is_fit_is_left_as_it_was(bucket: Bucket) -> None:
    before = bucket.holds()
    refuse_unfit(address(bucket))
    assert bucket.holds() == before


def test_a_bucket_that_is_not_there_is_refused(bucket: Bucket) -> None:
    with pytest.raises(ConfigError, match=r"s3://nobodys/start: there is no such bucket"):
        refuse_unfit(address(bucket, "nobodys"))


def test_keys_that_it_refuses_are_refused(bucket: Bucket) -> None:
    """The message shows neither."""
    bucket.deny()
    with pytest.raises(ConfigError, match="refuses these keys") as caught:
        refuse_unfit(address(bucket))
    assert "artist" not in caught.value.detail


def test_a_server_that_ignores_conditions_is_refused(bucket: Bucket) -> None:
    """A late attempt could replace a finished file there."""
    bucket.drops.add("If-None-Match")
    with pytest.raises(ConfigError, match="writes over what is there"):
        refuse_unfit(address(bucket))


def test_a_rule_that_deletes_is_refused(bucket: Bucket) -> None:
    """S3 tells it in a header of the objects that the rule is about."""
    bucket.adds.append(("x-amz-expiration", 'expiry-date="Fri, 23 Dec 2026", rule-id="tidy"'))
    with pytest.raises(ConfigError, match=r"lifecycle rule .*rule-id=\"tidy\".*retention_days"):
        refuse_unfit(address(bucket))


def test_a_bucket_with_versions_is_named(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    """It works; what is deleted there costs all the same."""
    with caplog.at_level(logging.WARNING, "assets.artifacts"), Bucket() as other:
        other.versions()
        refuse_unfit(ObjectAddress.parse(other.at("start")))
    assert "keeps versions" in caplog.text


def test_a_store_that_is_away_is_waited_for(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.says = 503
    refuse_unfit(address(bucket))
    assert "jobs wait until it does" in caplog.text


# ---- later ----


def test_while_it_says_503_or_is_gone_a_job_waits(output: OutputDir, bucket: Bucket) -> None:
    """Nothing that is said names a host, a path or a key; and when it is back, all is good."""
    output.probe()

    def fails() -> None:
        with pytest.raises(StorageFailed) as caught:
            output.write(rendered(), PARAMS, JOB, 1)
        assert caught.value.passes
        with pytest.raises(OSError, match=r"object store|bucket"):
            output.probe()
        for said in caught.value.detail, str(output.trouble):
            assert not any(word in said for word in ("127.0.0.1", "artist", "faults", "Error"))

    bucket.says = 503
    fails()
    bucket.says = None
    bucket.deny()
    fails()
    bucket.allow()
    bucket.stop()
    try:
        fails()
    finally:
        bucket.start()
    output.probe()
    assert output.trouble is None
    output.write(rendered(), PARAMS, JOB, 1)


def test_a_request_that_is_repeated_finds_its_own_file(bucket: Bucket) -> None:
    """The first one may have arrived, and its answer not."""
    storage = ObjectStorage(address(bucket))
    storage.put("day/a.png", b"pixels")
    storage.put("day/a.png", b"pixels")
    with pytest.raises(FileExistsError):
        storage.put("day/a.png", b"others")


def test_calls_are_repeated_for_a_moment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRIES", 1)
    storage = ObjectStorage(address(bucket))
    bucket.says, before = 503, bucket.asked["PUT"]
    with pytest.raises(OSError, match="does not answer as it should"):
        storage.put("day/b.png", b"pixels")
    assert bucket.asked["PUT"] - before == 2


def test_what_an_object_is_stands_beside_it(bucket: Bucket) -> None:
    """A signed URL gives it as we would."""
    storage = ObjectStorage(address(bucket))
    storage.put("day/c.webp", b"pixels")
    answer = httpx.get(storage.signed("day/c.webp"))
    assert (answer.status_code, answer.content) == (200, b"pixels")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "artist" in storage.signed("day/c.webp")
    assert "secret" not in storage.signed("day/c.webp")


def test_many_files_are_listed_and_removed_at_once(bucket: Bucket) -> None:
    storage = ObjectStorage(address(bucket))
    paths = [f"many/{number}.png" for number in range(20)]
    for path in paths:
        storage.put(path, b"x")
    before = bucket.asked.total()
    assert len(storage.stats("many", [path.partition("/")[2] for path in paths])) == 20
    assert storage.remove([*paths, "many/.a.png.tmp"]) == 20
    assert bucket.asked.total() - before == 2
    assert storage.names("many") == []
    bucket.says = 503
    assert storage.remove(paths) == 0
