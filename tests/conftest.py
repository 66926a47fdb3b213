from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bucket import KEYS, Bucket


@pytest.fixture(scope="session", name="s3")
def _s3() -> Iterator[Bucket]:
    with Bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Without a fault. No call is repeated, so that nobody waits for what is broken."""
    from serve_app.artifacts import objects

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "RETRIES", 0)
    yield s3
    s3.recover()
