"""GET /v1/ledger: every published file of an owner, page by page, and of nobody else."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import httpx
import pytest

from serve_app.api import ledger
from tests.api.harness import (
    LocalTransport,
    assert_problem,
    keys_of,
    limit,
    make_app,
    ordered,
    serving,
)
from tests.api.routes.test_derive import BODY, drawn
from tests.factories import image_file
from tests.jobs.harness import World


async def rows(client: httpx.AsyncClient, **query: str) -> list[dict[str, str]]:
    response = await client.get("/v1/ledger", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="ledger.csv"' in response.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(response.text)))


async def test_pages_follow_each_other_and_children_have_the_words_of_their_parents(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_PAGE", 1)
    limit(world, max_in_flight=9)
    assert await rows(client) == []
    parent = await drawn(client, world, prompt="a parent")
    child = (await client.post(f"/v1/jobs/{parent}/derive", json=BODY)).json()["job_id"]
    await world.started(child)
    assert await world.finish(child, 1, [image_file(path="d/child.png", sha256="c" * 64)])
    other = await drawn(client, world, prompt="another", effects=[])
    await ordered(client, prompt="is not drawn yet")
    found = await rows(client)
    assert [row["job_id"] for row in found] == [other, other, child, parent, parent]
    assert [row["prompt"] for row in found[2:]] == ["a parent"] * 3
    assert found[2]["parents"] == parent
    await client.delete(f"/v1/jobs/{parent}")
    assert [row["prompt"] for row in await rows(client, tag="t")] == ["another", "another", ""]
    assert await rows(client, created_before="2020-01-01T00:00:00Z") == []
    assert_problem(await client.get("/v1/ledger?style_id=icon"), 422, "invalid_field")


async def test_nobody_reads_the_ledger_of_others(
    transport: LocalTransport, world: World, tmp_path: Path
) -> None:
    keys = keys_of(tmp_path / "keys", "ann", "bob")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        assert_problem(await client.get("/v1/ledger"), 401, "unauthorized")
        client.headers.update(keys[0])
        await drawn(client, world)
        assert len(await rows(client)) == 2
        client.headers.update(keys[1])
        assert await rows(client) == []
