"""Methods: HEAD wherever there is GET, and every method of a path in `Allow`."""

from __future__ import annotations

import httpx
import pytest

from tests.api.harness import ORDER, assert_problem, ordered
from tests.artifacts.pictures import rendered
from tests.factories import JOB_ID
from tests.jobs.harness import World


async def test_head_is_get_without_its_body(client: httpx.AsyncClient, world: World) -> None:
    """On every path that answers GET. The head of a stream does not wait for its end."""
    job = await ordered(client)
    (world.files.root / "a.png").write_bytes(b"png")
    picture = {"content-type": "image/png"}
    made = await client.post("/v1/uploads", content=rendered()["data"], headers=picture)
    batch = (await client.post("/v1/batches", json={"orders": [ORDER]})).json()
    described = (await client.get("/openapi.json")).json()["paths"]
    paths = [path for path, operations in described.items() if "get" in operations]
    assert len(paths) == 23
    for path in (*paths, "/docs", "/openapi.json", "/docs/static/swagger-ui.css"):
        url = path.replace("{job_id}", job["job_id"]).replace("{path}", "a.png")
        url = url.replace("{upload_id}", made.json()["upload_id"])
        url = url.replace("{batch_id}", batch["batch_id"]).replace(
            "archive", "archive?partial=true"
        )
        url = url.replace("{model}", "other")
        head = await client.head(url)
        assert (head.status_code, head.content) == (200, b""), url
        if "events" not in path:
            got = await client.get(url)
            assert head.headers["content-type"] == got.headers["content-type"]
    assert not any("head" in operations for operations in described.values())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"/v1/jobs/{JOB_ID}", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/generate", "POST"),
        ("HEAD", "/v1/generate", "POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD"),
        ("PATCH", "/output/a.png", "GET, HEAD"),
        ("PUT", "/docs", "GET, HEAD"),
        ("PUT", "/docs/static/swagger-ui.css", "GET, HEAD"),
        ("OPTIONS", f"/v1/jobs/{JOB_ID}/cancel", "POST"),
    ],
)
async def test_a_wrong_method_is_told_all_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    if method != "HEAD":
        assert_problem(response, 405, "method_not_allowed")
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
