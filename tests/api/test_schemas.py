"""GenerateRequest: what is accepted, and what each wrong order is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.api.schemas import MAX_DEPTH, GenerateRequest
from serve_app.catalog.resolve import Order
from serve_app.catalog.styles import Styles
from tests.api.harness import (
    ORDER,
    STYLES,
    LocalTransport,
    assert_problem,
    make_app,
    ordered,
    serving,
    site,
)
from tests.jobs.harness import World

JSON_BODY = {"content-type": "application/json"}


async def post_json(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    """In ASCII, so that a body may hold what UTF-8 cannot."""
    return await client.post("/v1/generate", content=json.dumps(body), headers=JSON_BODY)


async def assert_nothing_ordered(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/jobs")).json()["results"] == []


@pytest.mark.parametrize("seed", [-1, None])
async def test_a_seed_is_drawn_and_returned(client: httpx.AsyncClient, seed: int | None) -> None:
    assert 0 <= (await ordered(client, seed=seed))["request"]["seed"] < 2**32


async def test_control_characters_are_removed(client: httpx.AsyncClient) -> None:
    job = await ordered(client, prompt=" a\x00 red\npot\x1bion\t")
    assert job["request"]["prompt"] == "a red potion"


@pytest.mark.parametrize("prompt", ["é", "e\u0301", "剣", "👩\u200d🚀", "→", "7"])
async def test_any_sign_that_shows_is_a_prompt(client: httpx.AsyncClient, prompt: str) -> None:
    assert (await ordered(client, prompt=prompt))["request"]["prompt"] == prompt


async def test_a_whole_number_may_have_a_point(client: httpx.AsyncClient, world: World) -> None:
    """JSON has one kind of number, and Godot writes 7.0. It is the same order: its key says so."""
    numbers = {"seed": 7, "n": 2, "width": 64, "height": 64, "steps": 5, "guidance_scale": 3}
    key = {"Idempotency-Key": "a"}
    whole = await client.post("/v1/generate", json=ORDER | numbers, headers=key)
    pointed = {name: float(number) for name, number in numbers.items()}
    again = await client.post("/v1/generate", json=ORDER | pointed, headers=key)
    assert again.status_code == 202, again.text
    assert again.json()["job_id"] == whole.json()["job_id"]
    params = (await world.look(whole.json()["job_id"]))["params"]
    assert {type(params[name]) for name in ("seed", "n", "width", "height", "steps")} == {int}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("empty prompt", {"prompt": ""}, "prompt"),
    ("blank prompt", {"prompt": " \x00\n"}, "prompt"),
    ("zero-width space", {"prompt": "\u200b"}, "prompt"),
    ("joiners and marks", {"prompt": "\u200d\ufe0f\u0301 \u00ad\ufeff"}, "prompt"),
    ("letters drawn as nothing", {"prompt": "\u3164\u115f\u2800"}, "prompt"),
    ("nothing assigned", {"prompt": "\ue000\U000e0001"}, "prompt"),
    ("10 kB prompt", {"prompt": "x" * 10_000}, "prompt"),
    ("prompt of another type", {"prompt": ["a"]}, "prompt"),
    ("half a surrogate pair", {"prompt": "\ud800"}, "prompt"),
    ("10 kB negative prompt", {"negative_prompt": "x" * 10_000}, "negative_prompt"),
    ("unknown style", {"style_id": "nope"}, "style_id"),
    ("a style the model cannot draw", {"style_id": "portrait"}, "style_id"),
    ("seed abc", {"seed": "abc"}, "seed"),
    ("seed 2^40", {"seed": 2**40}, "seed"),
    ("seed -2", {"seed": -2}, "seed"),
    ("seed 1.5", {"seed": 1.5}, "seed"),
    ("last seed with two images", {"seed": 2**32 - 1, "n": 2}, "seed"),
    ("n 0", {"n": 0}, "n"),
    ("n 10 000", {"n": 10_000}, "n"),
    ("n beyond any float", {"n": 10**400}, "n"),
    ("n true", {"n": True}, "n"),
    ("n 2.5", {"n": 2.5}, "n"),
    ("seed 1e300", {"seed": 1e300}, "seed"),
    ("steps 1e400", {"steps": float("inf")}, "steps"),
    ("width 7", {"width": 7}, "width"),
    ("width 100 000", {"width": 100_000}, "width"),
    ("width beyond any float", {"width": 10**400}, "width"),
    ("size in words", {"size": "big"}, "size"),
    ("size twice", {"size": "64x64", "width": 64}, "size"),
    ("steps 0", {"steps": 0}, "steps"),
    ("steps 10 000", {"steps": 10_000}, "steps"),
    ("guidance -1", {"guidance_scale": -1}, "guidance_scale"),
    ("guidance 1e6", {"guidance_scale": 1e6}, "guidance_scale"),
    ("rescale 1.5", {"guidance_rescale": 1.5}, "guidance_rescale"),
    ("clip_skip 99", {"clip_skip": 99}, "clip_skip"),
    ("unknown syntax", {"prompt_syntax": "compel"}, "prompt_syntax"),
    ("a LoRA that is not there", {"loras": [{"name": "ink"}]}, "loras"),
    ("tile diagonal", {"tile": "diagonal"}, "tile"),
    ("unknown scheduler", {"scheduler": "magic"}, "scheduler"),
    ("a path for a model", {"model": "../../etc/passwd"}, "model"),
    ("a model that is not served", {"model": "other"}, "model"),
    ("unknown quality", {"quality": "best"}, "quality"),
    ("unknown reproducible", {"reproducible": "no"}, "reproducible"),
    ("unknown field", {"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("change", "field"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
async def test_a_wrong_field_is_named_with_what_is_allowed(
    client: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    """422, the field, and nothing queued."""
    response = await post_json(client, ORDER | change)
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert error["field"] == field
    assert error["pointer"] == f"#/{field}"
    assert error["detail"]
    if field not in ("prompt", "negative_prompt", "size"):
        assert error["allowed"]
    await assert_nothing_ordered(client)


async def test_an_unknown_style_is_told_the_styles(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", json=ORDER | {"style_id": "nope"})
    assert response.json()["errors"][0]["allowed"] == ["icon", "none", "portrait"]


@pytest.mark.parametrize("style", [{}, {"style_id": None}])
async def test_an_order_need_not_name_a_style(
    transport: LocalTransport, style: dict[str, None]
) -> None:
    """It gets the default of the styles file, and its job says which."""
    app = make_app(transport, styles=Styles(STYLES, default="icon"))
    async with serving(app) as client:
        job = (await client.post("/v1/generate", json={"prompt": "a fox"} | style)).json()
    assert job["request"]["style_id"] == "icon"
    assert job["resolved"]["style_revision"] == STYLES["icon"].revision


SHAPES = [
    ("POST", "/v1/generate", {"json": ORDER | {"size": "256"}}),
    ("POST", "/v1/generate", {"json": ORDER | {"tags": ["a b"]}}),
    ("POST", "/v1/generate", {"json": ORDER, "headers": {"X-Client-Id": "a b"}}),
    ("POST", "/v1/generate", {"json": ORDER, "headers": {"Idempotency-Key": b"\xe9"}}),
    ("GET", "/v1/jobs?tag=a%20b", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), SHAPES)
async def test_a_shape_is_told_in_words(
    client: httpx.AsyncClient, method: str, path: str, request_: dict[str, Any]
) -> None:
    """Nobody is shown a regular expression."""
    response = await client.request(method, path, **request_)
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    said = " ".join([error["detail"], *map(str, error.get("allowed", []))])
    assert not re.search(r"[\[\]^${}\\]", said), said


async def test_every_wrong_field_is_listed(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", json={"prompt": "", "seed": "abc", "x": 1})
    fields = [error["field"] for error in response.json()["errors"]]
    assert sorted(fields) == ["prompt", "seed", "x"]


async def test_a_problem_does_not_repeat_the_prompt(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", json={"prompt": "secret plans", "seed": "abc"})
    assert "secret" not in response.text


@pytest.mark.parametrize(
    "content", [b"{", b"", b"[" * 50_000, b'{"prompt": "\xff"}', b'{"n": %s}' % (b"9" * 5000)]
)
async def test_a_body_that_is_not_json_is_400(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/v1/generate", content=content, headers=JSON_BODY)
    assert response.status_code in (400, 422)
    assert_problem(response, response.status_code, response.json()["code"])


async def test_nan_is_no_number(client: httpx.AsyncClient) -> None:
    content = b'{"prompt": "a", "style_id": "icon", "guidance_scale": NaN}'
    response = await client.post("/v1/generate", content=content, headers=JSON_BODY)
    assert_problem(response, 422, "invalid_field")


# ---- labels ----


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def labelled(metadata: bytes) -> bytes:
    return b'{"prompt": "a", "style_id": "icon", "metadata": %s}' % metadata


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
async def test_a_wrong_label_is_named(client: httpx.AsyncClient, field: str, value: Any) -> None:
    response = await client.post("/v1/generate", json=ORDER | {field: value})
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert error["field"].partition(".")[0] == field  # of a list, which of its parts is wrong
    assert error["pointer"] == "#/" + error["field"].replace(".", "/")
    await assert_nothing_ordered(client)


@pytest.mark.parametrize(
    "metadata",
    [
        nested(MAX_DEPTH + 1),
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": [[[[[[[[1]]]]]]]]}',
    ],
)
async def test_metadata_that_json_cannot_hold_or_is_too_deep_is_named(
    client: httpx.AsyncClient, metadata: bytes
) -> None:
    response = await client.post("/v1/generate", content=labelled(metadata), headers=JSON_BODY)
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert error["field"] == "metadata"
    await assert_nothing_ordered(client)


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
    response = await client.post("/v1/generate", content=labelled(metadata), headers=JSON_BODY)
    assert response.status_code in statuses
    body = assert_problem(response, response.status_code, response.json()["code"])
    assert body["code"] != "internal"


@pytest.mark.parametrize(
    "metadata", [nested(8), b'{"a": "%s"}' % (b"x" * 4087), b'{"a": %s}' % (b"9" * 4000)]
)
async def test_metadata_up_to_the_limits_is_taken(
    client: httpx.AsyncClient, metadata: bytes
) -> None:
    response = await client.post("/v1/generate", content=labelled(metadata), headers=JSON_BODY)
    assert response.status_code == 202, response.text
    assert (await client.get(response.headers["location"])).status_code == 200


# ---- what it becomes ----


def test_every_field_is_drawn_or_named_as_not_drawn() -> None:
    """`Order` takes each field that a picture depends on."""
    request = GenerateRequest.model_validate(ORDER | {"size": "64x128", "tags": ["a"]})
    order = request.order()
    assert isinstance(order, Order)
    assert (order.width, order.height) == (64, 128)


def test_two_ways_to_write_an_order_have_one_hash() -> None:
    def hash_of(**body: Any) -> str:
        return GenerateRequest.model_validate(ORDER | body).body_hash()

    assert hash_of() == hash_of(seed=None, n=1) == hash_of(seed=-1, dry_run=True)
    assert hash_of(size="64x64") == hash_of(width=64, height=64)
    different = {hash_of(), hash_of(n=2), hash_of(tags=["a"]), hash_of(metadata={"a": 1})}
    assert len(different) == 4


TEXT = st.text(st.characters(exclude_categories=()))  # with halves of surrogate pairs
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*GenerateRequest.model_fields, "other", "\ud800"])
VALUES = JSON | st.sampled_from(["icon", "none", "64x64", "draft", "strict", "ddim", 64, 1, -1])
ORDERS = st.dictionaries(FIELDS, VALUES, max_size=3).map(lambda change: ORDER | change)


@pytest.fixture
def post(tmp_path: Path) -> Generator[Callable[[Any], httpx.Response]]:
    """One service for all the examples of a property."""
    with site(tmp_path) as served, httpx.Client(base_url=served.url) as client:
        served.limit(max_in_flight=0, max_pending=10_000)
        yield lambda body: client.post("/v1/generate", content=json.dumps(body), headers=JSON_BODY)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=ORDERS | st.dictionaries(FIELDS, VALUES) | JSON)
def test_any_json_is_accepted_or_a_problem(
    body: Any, post: Callable[[Any], httpx.Response]
) -> None:
    """Never a 500, whatever the body holds."""
    response = post(body)
    if response.status_code not in (200, 202):
        assert response.status_code in (400, 422), response.text
        assert_problem(response, response.status_code, response.json()["code"])
