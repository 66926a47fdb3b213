"""What may be said once and is said twice is refused, and named; what is a list is one."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.once import SINGLE
from tests.api.harness import ORDER, assert_problem, ordered

JSON = {"content-type": "application/json"}
VALUES = {
    "host": ("localhost", "evil.example"),
    "content-type": ("application/json", "text/plain"),
    "content-encoding": ("identity", "gzip"),
}


@pytest.mark.parametrize("name", sorted(name.decode() for name in SINGLE))
async def test_a_header_with_one_value_comes_once(client: httpx.AsyncClient, name: str) -> None:
    """The same value twice is no better: whoever adds a line does not know of the other."""
    first, second = VALUES.get(name, ("1", "2"))
    sent = [(name, first), (name, second)]
    sent += [(other, value) for other, value in JSON.items() if other != name]
    for headers in (sent, [(name, first), *sent[1:]]):
        response = await client.post("/v1/generate", content=json.dumps(ORDER), headers=headers)
        problem = assert_problem(response, 400, "invalid_request")
        assert problem["detail"] == f"The header {name} came 2 times. Send it once."
    assert (await client.get("/v1/jobs")).json()["results"] == []


async def test_lines_of_a_list_are_one_list(client: httpx.AsyncClient) -> None:
    """By the short way of a poll and by that of an order with a key."""
    lines = [("prefer", "respond-async"), ("prefer", "wait=0")]
    key = [("idempotency-key", "k"), *JSON.items()]
    reply = await client.post("/v1/generate", json=ORDER, headers=[*lines, *key])
    assert reply.headers["preference-applied"] == "wait=0"
    url = reply.json()["urls"]["self"]
    assert (await client.get(url, headers=lines)).headers["preference-applied"] == "wait=0"
    known = (await client.get(url)).headers["etag"]
    tags = [("if-none-match", 'W/"0.0"'), ("if-none-match", known)]
    assert (await client.get(url, headers=tags)).status_code == 304


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/jobs?tag=a&tag=b", "tag"),
        ("/v1/jobs?limit=1&limit=1", "limit"),
        ("/v1/jobs?status=SUCCESS&cursor=a&status=FAILURE&cursor=b", "cursor"),
        ("/v1/events?preview=true&preview=false", "preview"),
        ("{job}/events?preview=1&preview=1", "preview"),
    ],
)
async def test_a_parameter_of_a_query_comes_once(
    client: httpx.AsyncClient, path: str, name: str
) -> None:
    job = await ordered(client)
    response = await client.get(path.replace("{job}", job["urls"]["self"]))
    problem = assert_problem(response, 422, "invalid_field")
    assert problem["errors"] == [{"field": name, "detail": "It came 2 times. Send it once."}]


async def test_a_list_in_a_query_is_one(client: httpx.AsyncClient) -> None:
    await ordered(client)
    found = await client.get("/v1/jobs?status=SUCCESS&status=PENDING&status=STARTED")
    assert len(found.json()["results"]) == 1


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"prompt": "a", "style_id": "icon", "prompt": "b"}', '"prompt" 2'),
        ('{"prompt": "a", "seed": 1, "seed": 1, "seed": 1}', '"seed" 3'),
        ('{"prompt": "a", "metadata": {"deep": [{"x": 1, "x": 2}]}}', '"x" 2'),
        ('{"prompt": "a", "\\u0070rompt": "b"}', '"prompt" 2'),
        ('{"\\ud800": 1, "\\ud800": 2}', '"\\ud800" 2'),
    ],
)
@pytest.mark.parametrize("key", [{}, {"idempotency-key": "k"}])
async def test_a_name_in_an_object_comes_once(
    client: httpx.AsyncClient, body: str, name: str, key: dict[str, str]
) -> None:
    """JSON does not say which one counts, and readers differ."""
    response = await client.post("/v1/generate", content=body, headers=JSON | key)
    problem = assert_problem(response, 400, "invalid_json")
    assert problem["detail"] == f"An object of the body has the name {name} times."


async def test_equal_names_in_different_objects_are_no_repeat(client: httpx.AsyncClient) -> None:
    metadata = {"prompt": 1, "list": [{"prompt": 1}, {"prompt": 2}]}
    job = await ordered(client, metadata=metadata)
    assert job["metadata"] == metadata


@pytest.mark.parametrize(
    ("headers", "upgrade"),
    [
        ({"content-length": "100", "upgrade": "h2c"}, True),
        ({"transfer-encoding": "chunked", "upgrade": "h2c"}, True),
        ({"content-length": "100"}, False),
    ],
)
async def test_a_body_that_was_lost_on_the_way_is_said_to_be(
    app: FastAPI, headers: dict[str, str], upgrade: bool
) -> None:
    """Java's HttpClient asks for h2c with each request, and uvicorn drops the body of such a one."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    said = {"host": "localhost", **JSON, **headers}
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/generate"}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in said.items()]
    await app(scope, receive, send)
    problem = json.loads(sent[1]["body"])
    assert (sent[0]["status"], problem["code"]) == (400, "invalid_request")
    assert "0 bytes of the body came" in problem["detail"]
    assert ("Send no Upgrade header" in problem["detail"]) == upgrade
