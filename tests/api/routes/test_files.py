"""The route of finished files."""

from __future__ import annotations

import httpx
import pytest

from tests.api.harness import assert_problem
from tests.jobs.harness import World


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [("png", "image/png"), ("webp", "image/webp"), ("jpg", "image/jpeg")],
)
async def test_a_finished_file_may_be_cached_for_ever(
    client: httpx.AsyncClient, world: World, suffix: str, media_type: str
) -> None:
    path = f"2026-11-22/icon.{suffix}"
    (world.files.root / "2026-11-22").mkdir()
    (world.files.root / path).write_bytes(b"pixels")
    response = await client.get(f"/output/{path}")
    etag = {"If-None-Match": response.headers["etag"]}
    again = await client.get(f"/output/{path}", headers=etag)
    head = await client.head(f"/output/{path}")
    post = await client.post(f"/output/{path}", json={})
    assert response.content == b"pixels"
    assert response.headers["content-type"] == media_type
    assert "immutable" in response.headers["cache-control"]
    assert again.status_code == 304
    assert (head.status_code, head.content) == (200, b"")
    assert_problem(post, 405, "method_not_allowed")
