"""Request headers: what may be sent, and what comes of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx
import pytest

from serve_app.api.headers import (
    LONGEST_LIFE_S,
    last_revision,
    life_seconds,
    names_revision,
    wait_seconds,
)
from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    keys_of,
    make_app,
    serving,
)
from tests.jobs.harness import World


async def post(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/generate", json=ORDER, headers=named)


async def assert_wrong(client: httpx.AsyncClient, header: str, value: str) -> list[str]:
    """422 names the header, without a pointer into the body, and nothing is ordered. Returns what is
    allowed."""
    headers = {header.lower().encode(): value.encode()}
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == header
    assert "pointer" not in error
    assert (await client.get("/v1/jobs")).json()["results"] == []
    return error["allowed"]


# ---- Prefer ----


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=30", 30),
        ("respond-async, wait=30", 30),
        ('WAIT="30"', 30),
        ("wait = 30; x=y", 30),
        ("a=b,wait=30", 30),
        ("wait=0", 0),
        ("wait=60", 60),
        ("wait=61", 60),
        ("wait=999999999999", 60),
        ("wait=abc, wait=5", 5),
        ("respond-async", None),
        ("return=minimal, handling=lenient", None),
        ("", None),
        (None, None),
    ],
)
def test_a_wait_is_read_as_rfc_7240_writes_it(prefer: str | None, seconds: int | None) -> None:
    assert wait_seconds(prefer) == seconds


@pytest.mark.parametrize("prefer", ["wait=-1", "wait=abc", "wait", "wait=", "wait=1.5", "wait=²"])
async def test_a_wait_that_cannot_be_honoured_is_ignored(
    client: httpx.AsyncClient, prefer: str
) -> None:
    response = await client.post("/v1/generate", json=ORDER, headers={b"prefer": prefer.encode()})
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


# ---- Cancel-After ----


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1h30m", 5400),
        ("2m5s", 125),
        (" 15m ", 900),
        ("720h", 2_592_000),
        (None, None),
    ],
)
def test_a_duration_is_read(sent: str | None, seconds: float | None) -> None:
    assert life_seconds(sent) == seconds


async def test_a_deadline_counts_from_the_order(client: httpx.AsyncClient) -> None:
    job = (await post(client, Cancel_After="1h30m")).json()
    created, deadline = (datetime.fromisoformat(job[name]) for name in ("created_at", "deadline"))
    assert (deadline - created).total_seconds() == pytest.approx(5400, abs=1e-3)


@pytest.mark.parametrize(
    "sent",
    ["0", "-5", "abc", "", "1.5", "1h30", "5d", "30m1h", "0h0m", "²", "9" * 40, "721h", "2592001"],
)
async def test_a_wrong_deadline_is_named(client: httpx.AsyncClient, sent: str) -> None:
    (allowed,) = await assert_wrong(client, "Cancel-After", sent)
    assert str(LONGEST_LIFE_S) in allowed


# ---- X-Client-Id ----


async def test_a_client_may_name_itself_where_there_are_no_keys(
    client: httpx.AsyncClient, world: World
) -> None:
    named = await world.look((await post(client, X_Client_Id="level-editor")).json()["job_id"])
    other = await world.look((await post(client)).json()["job_id"])
    assert (named["labels"]["client"], named["owner"]) == ("level-editor", "local")
    assert other["labels"]["client"] == "local"


async def test_with_keys_the_owner_is_the_client(transport: LocalTransport, tmp_path: Path) -> None:
    """Nobody takes a share by taking a name."""
    (studio,) = keys_of(tmp_path / "keys", "studio")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        for name in ("somebody", "not a name"):
            response = await post(client, X_Client_Id=name, **studio)
            job = await transport.world.look(response.json()["job_id"])
            assert job["labels"]["client"] == "studio"


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a" * 65, "a/b", "é"])
async def test_a_wrong_name_is_named(client: httpx.AsyncClient, name: str) -> None:
    assert await assert_wrong(client, "X-Client-Id", name)


# ---- If-None-Match, Last-Event-ID ----


@pytest.mark.parametrize(
    ("if_none_match", "named"),
    [
        ('W/"3.117"', True),
        ('"3.117"', True),
        ('"other", W/"3.117"', True),
        ("*", True),
        ('W/"3.11"', False),
        ("3.117", False),
        ("", False),
    ],
)
def test_a_revision_is_named_weakly_or_strongly(if_none_match: str, named: bool) -> None:
    assert names_revision(if_none_match, "3.117") == named


@pytest.mark.parametrize(
    ("sent", "revision"),
    [
        ("3.117", (3, 117)),
        ("0.0", (0, 0)),
        (None, None),
        ("", None),
        ("3", None),
        ("3.", None),
        ("x.1", None),
        ("-1.5", None),
        ("²." * 9, None),
        ("1." + "9" * 40, None),
    ],
)
def test_an_event_id_is_a_revision_or_ignored(
    sent: str | None, revision: tuple[int, int] | None
) -> None:
    assert last_revision(sent) == revision
