"""ObjectAddress: what is a place for files, and what is said of what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.object_address import ObjectAddress, folder_in


@pytest.mark.parametrize(
    "text",
    [
        "s3://studio",
        "s3://studio/art/2026",
        "s3://studio/art?endpoint=http://10.0.0.7:9000&region=eu-central-1",
        "gs://studio/art",
        "az://container/art",
    ],
)
def test_an_address_is_read_and_written_the_same(text: str) -> None:
    assert str(ObjectAddress.parse(text)) == text
    assert str(ObjectAddress.parse(text.replace("?", "/?"))) == text


def test_its_parts() -> None:
    found = ObjectAddress.parse("s3://studio/a/b/?endpoint=https://s3.example/")
    assert (found.bucket, found.prefix, found.endpoint) == ("studio", "a/b", "https://s3.example")
    assert found.url == "s3://studio/a/b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://host/bucket", "s3://bucket/prefix, gs://"),
        ("output", "no place for files"),
        ("s3:///prefix", "no name of a bucket"),
        ("s3://key:secret@studio/art", "keys come from the environment"),
        ("s3://studio/../secrets", "is no prefix"),
        ("s3://studio/.hidden", "is no prefix"),
        ("s3://studio/a b", "is no prefix"),
        (
            "s3://studio/art?endpiont=http://host",
            "'endpiont' is not known: s3:// may have endpoint",
        ),
        ("s3://studio/art?endpoint=10.0.0.7:9000", "is no URL"),
        ("gs://studio/art?endpoint=http://host", "gs:// has no options"),
        ("s3://studio/art#new", "'new' is not known"),
    ],
)
def test_what_is_none_is_told_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        ObjectAddress.parse(text)


def test_a_file_address_is_a_folder() -> None:
    assert folder_in("file:///srv/our%20art") == Path("/srv/our art")
    assert folder_in("s3://studio") is None
    for wrong in ("file://host/art", "file:art", "file:///art?x=1"):
        with pytest.raises(ValueError, match="is no folder"):
            folder_in(wrong)
