"""Tags, metadata, priority and dry runs of an order: what no image depends on."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.harness import ORDER, MemoryRegistry, assert_problem

JSON = {"content-type": "application/json"}


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def labelled(metadata: bytes) -> bytes:
    return b'{"prompt": "a", "style_id": "icon", "metadata": %s}' % metadata


async def test_labels_are_kept_and_returned(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """Tags once each, in the order they came; metadata to the last byte."""
    tags = ["b", "a:1", "b", "x/y.z_-"]
    metadata: dict[str, Any] = {"é": [1, 2.5, None, True, {"big": 10**30}], "": ""}
    response = await client.post(
        "/v1/generate", json=ORDER | {"tags": tags, "metadata": metadata, "priority": "low"}
    )
    job = response.json()
    assert job["tags"] == ["b", "a:1", "x/y.z_-"]
    assert job["metadata"] == metadata
    assert job["priority"] == "low"
    (listed,) = (await client.get("/v1/jobs")).json()["results"]
    assert (listed["tags"], listed["metadata"]) == (job["tags"], metadata)


async def test_what_is_not_said_is_plain(client: httpx.AsyncClient) -> None:
    job = (await client.post("/v1/generate", json=ORDER)).json()
    assert (job["tags"], job["metadata"], job["priority"]) == ([], {}, "normal")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tags", ["x" * 10_000]),
        ("tags", ["x" * 65]),
        ("tags", [""]),
        ("tags", ["a b"]),
        ("tags", ["a\n"]),
        ("tags", ["é"]),
        ("tags", [1]),
        ("tags", "a"),
        ("tags", None),
        ("tags", [str(n) for n in range(17)]),
        ("tags", ["a"] * 17),
        ("metadata", []),
        ("metadata", "a"),
        ("metadata", None),
        ("metadata", {"a": "x" * 4089}),
        ("metadata", {"a": "é" * 2045}),
        ("priority", "urgent"),
        ("priority", 1),
        ("dry_run", "yes"),
    ],
)
async def test_a_wrong_label_is_named(
    client: httpx.AsyncClient, registry: MemoryRegistry, field: str, value: Any
) -> None:
    response = await client.post("/v1/generate", json=ORDER | {field: value})
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert (error["field"], error["pointer"]) == (field, f"#/{field}")
    assert registry.jobs == {}


@pytest.mark.parametrize(
    "metadata",
    [
        nested(9),
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": [[[[[[[[1]]]]]]]]}',
    ],
)
async def test_metadata_that_json_cannot_hold_or_is_too_deep_is_named(
    client: httpx.AsyncClient, registry: MemoryRegistry, metadata: bytes
) -> None:
    response = await client.post("/v1/generate", content=labelled(metadata), headers=JSON)
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert error["field"] == "metadata"
    assert registry.jobs == {}


@pytest.mark.parametrize(
    ("metadata", "statuses"),
    [
        (nested(100), {422}),
        (nested(1000), {400, 422}),  # the parser's own limit, or ours
        (nested(8000), {400, 422}),
        (b'{"a":' * 10_000, {400, 422}),
        (nested(100_000), {413}),
        (b'{"a": %s}' % (b"[" * 30_000 + b"]" * 30_000), {400, 422}),
        (b'{"a": %s}' % (b"9" * 5000), {400, 422}),
        (b'{"a": 1', {400}),
    ],
)
async def test_metadata_as_deep_as_can_be_sent_is_a_problem(
    client: httpx.AsyncClient, metadata: bytes, statuses: set[int]
) -> None:
    response = await client.post("/v1/generate", content=labelled(metadata), headers=JSON)
    assert response.status_code in statuses
    body = assert_problem(response, response.status_code, response.json()["code"])
    assert body["code"] != "internal"


@pytest.mark.parametrize(
    "metadata", [nested(8), b'{"a": "%s"}' % (b"x" * 4087), b'{"a": %s}' % (b"9" * 4000)]
)
async def test_metadata_up_to_the_limits_is_taken(
    client: httpx.AsyncClient, metadata: bytes
) -> None:
    response = await client.post("/v1/generate", content=labelled(metadata), headers=JSON)
    assert response.status_code == 202, response.text
    assert (await client.get(response.headers["location"])).status_code == 200


# ---- dry_run ----


async def test_a_dry_run_orders_nothing(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """It says what the order would be, every choice made, and how long it would take."""
    headers = {"Idempotency-Key": "one", "Prefer": "wait=60"}
    body = ORDER | {"seed": 7, "dry_run": True}
    response = await client.post("/v1/generate", json=body, headers=headers)
    assert response.status_code == 200
    said = response.json()
    assert registry.jobs == {}
    assert registry.keys == {}
    assert said["request"]["steps"] == 6
    assert said["request"]["seed"] == 7
    assert said["resolved"]["prompt"] == "a red potion, game icon"
    assert (said["possible"], said["reason"], said["estimated_seconds"]) == (True, None, 2.5)
    assert "location" not in response.headers
    ordered = await client.post("/v1/generate", json=ORDER | {"seed": 7}, headers=headers | NO_WAIT)
    assert ordered.json()["request"] == said["request"]
    assert ordered.json()["resolved"] == said["resolved"]


NO_WAIT = {"Prefer": "wait=0"}


async def test_a_dry_run_says_why_it_would_not_be_served(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    registry.reason = "the renderer is not healthy"
    said = (await client.post("/v1/generate", json=ORDER | {"dry_run": True})).json()
    assert (said["possible"], said["reason"]) == (False, "the renderer is not healthy")
    assert said["estimated_seconds"] is None


async def test_a_dry_run_of_which_nothing_is_known_has_no_estimate(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    registry.seconds = None
    said = (await client.post("/v1/generate", json=ORDER | {"dry_run": True})).json()
    assert (said["possible"], said["estimated_seconds"]) == (True, None)


async def test_a_dry_run_of_a_wrong_order_is_told_so(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", json=ORDER | {"dry_run": True, "steps": 10_000})
    assert_problem(response, 422, "invalid_field")


async def test_the_same_order_dry_or_not_has_the_same_key(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """But another priority is another order."""
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/v1/generate", json=ORDER | {"dry_run": False}, headers=headers)
    again = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert first.json()["job_id"] == again.json()["job_id"]
    other = await client.post("/v1/generate", json=ORDER | {"priority": "high"}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reuse")
