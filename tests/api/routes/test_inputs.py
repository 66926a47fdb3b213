"""Parameters that several routes share."""

from __future__ import annotations

import httpx
import pytest

from tests.api.harness import ORDER, assert_problem, ordered
from tests.factories import JOB_ID


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside", "caf\xe9".encode("latin-1")])
async def test_a_key_is_printable_and_short(client: httpx.AsyncClient, key: str | bytes) -> None:
    headers = {b"idempotency-key": key if isinstance(key, bytes) else key.encode()}
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert_problem(response, 422, "invalid_field")


async def test_preview_is_a_flag(client: httpx.AsyncClient) -> None:
    job = await ordered(client)
    for path in (job["urls"]["events"], "/v1/events"):
        response = await client.get(f"{path}?preview=please")
        body = assert_problem(response, 422, "invalid_field")
        assert body["errors"][0]["field"] == "preview"


@pytest.mark.parametrize("job_id", ["x", "1", JOB_ID.upper(), JOB_ID[:-1], "%00", "é"])
async def test_a_malformed_id_is_404_and_says_so(client: httpx.AsyncClient, job_id: str) -> None:
    body = assert_problem(await client.get(f"/v1/jobs/{job_id}"), 404, "not_found")
    assert "UUID" in body["detail"]
