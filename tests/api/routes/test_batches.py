"""Batches over HTTP: orders in four forms, a roll-up, and an archive; and what is said of bad input."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from serve_app.artifacts.uploads import FOLDER
from tests.api.harness import (
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    limit,
    make_app,
    serving,
)
from tests.api.studio import draw, png, sprite, worked
from tests.jobs.harness import World

CSV = {"content-type": "text/csv"}
LINES = {"content-type": "application/x-ndjson"}
POTIONS = [{"prompt": "a red potion", "seed": 7}, {"prompt": "a blue potion"}]


def batch(*orders: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "potions",
        "defaults": {"style_id": "icon"},
        "orders": [*orders] or POTIONS,
    } | more


async def accepted(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    response = await client.post("/v1/batches", json=batch(**more))
    assert response.status_code == 202, response.text
    return response.json()


async def sent(
    client: httpx.AsyncClient, data: str | bytes, kind: dict[str, str], query: str = ""
) -> httpx.Response:
    return await client.post(f"/v1/batches{query}", content=data, headers=kind)


async def jobs_of(client: httpx.AsyncClient, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Oldest first."""
    return (await get(client, batch["urls"]["jobs"]))["results"][::-1]


async def draw_all(world: World, transport: LocalTransport, pictures: int = 1) -> None:
    """Every job in line, as it comes."""
    while world.registry.stats()["live"]:
        await world.until(lambda: world.launcher.running)
        job_id, fence = next(iter(world.launcher.running))
        await draw(world, job_id, [sprite(seed=n) for n in range(pictures)], fence)
        await world.until(lambda job_id=job_id: job_id not in world.registry._jobs.in_flight)
    await transport.caught_up()


async def archived(client: httpx.AsyncClient, batch: dict[str, Any], query: str = "") -> Any:
    response = await client.get(batch["urls"]["archive"] + query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    return zipfile.ZipFile(io.BytesIO(response.content))


async def test_a_batch_is_accepted_and_shown(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    response = await client.post("/v1/batches", json=batch())
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == body["urls"]["self"]
    assert response.headers["retry-after"]
    assert (body["status"], body["size"], body["name"]) == ("PENDING", 2, "potions")
    assert body["counts"]["PENDING"] == 2
    first, second = await jobs_of(client, body)
    assert first["batch_id"] == second["batch_id"] == body["batch_id"]
    assert (first["request"]["prompt"], first["request"]["seed"]) == ("a red potion", 7)
    await draw_all(world, transport)
    done = await client.get(body["urls"]["self"])
    assert done.json()["status"] == "SUCCESS"
    assert done.json()["progress"] == {"value": 1.0, "done": 2, "total": 2}
    assert "retry-after" not in done.headers
    again = await client.get(body["urls"]["self"], headers={"If-None-Match": done.headers["etag"]})
    assert again.status_code == 304


async def test_four_forms_of_the_same_orders_are_the_same(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """What one has made, the others reuse."""
    await accepted(client)
    await draw_all(world, transport)
    table = "prompt;style_id;seed\r\na red potion;icon;7\r\na blue potion;icon;\r\n"
    lines = "\n".join(json.dumps({**order, "style_id": "icon"}) for order in POTIONS)
    matrix = {"prompts": ["a {red|blue} potion"]}
    forms = [
        await sent(client, "\ufeff" + table, CSV, "?name=potions"),
        await sent(client, lines, LINES, "?name=potions"),
        await client.post("/v1/batches", json=batch(orders=None, matrix=matrix)),
    ]
    reused = [form.json()["reused"] for form in forms]
    assert reused == [
        {"count": 2, "rows": [[1, 2]]},
        {"count": 2, "rows": [[1, 2]]},
        {"count": 1, "rows": [[2, 2]]},  # its first order has no seed of its own
    ]
    assert [form.json()["status"] for form in forms] == ["SUCCESS", "SUCCESS", "STARTED"]


async def test_only_what_changed_is_made(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    await accepted(client)
    await draw_all(world, transport)
    changed = await accepted(client, orders=[POTIONS[1], {"prompt": "a green potion"}, POTIONS[0]])
    assert changed["reused"] == {"count": 2, "rows": [[1, 1], [3, 3]]}
    assert changed["counts"]["PENDING"] == 1
    everything = await accepted(client, reuse=False)
    assert everything["reused"]["count"] == 0


async def test_a_dry_run_orders_nothing(client: httpx.AsyncClient, world: World) -> None:
    limit(world, max_in_flight=0)
    await accepted(client)
    response = await client.post(
        "/v1/batches", json=batch(*POTIONS, {"prompt": "x", "n": 2}, dry_run=True)
    )
    assert response.status_code == 200
    said = response.json()
    assert (said["size"], said["images"], said["to_make"]) == (3, 4, 1)
    assert said["reused"] == {"count": 2, "rows": [[1, 2]]}
    assert said["possible"]
    assert len((await get(client, "/v1/batches"))["results"]) == 1
    limit(world, max_pending=2)
    response = await client.post("/v1/batches", json=batch(name=None, dry_run=True))
    assert not response.json()["possible"]
    assert "0 more" in response.json()["reason"]


async def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_accepted(
    client: httpx.AsyncClient,
) -> None:
    table = "prompt,style_id,steps\na,icon,6\n,icon,many\nb,pixel,6\n"
    problem = assert_problem(await sent(client, table, CSV), 422, "invalid_field")
    found = [(error["row"], error["field"]) for error in problem["errors"]]
    assert found == [(2, "prompt"), (2, "steps"), (3, "style_id")]
    assert problem["errors"][2]["allowed"] == ["icon", "none", "portrait"]
    assert "(line 4)" in problem["errors"][2]["detail"]
    problem = assert_problem(
        await client.post("/v1/batches", json=batch({"prompt": "a"}, {"prompt": ""})),
        422,
        "invalid_field",
    )
    (error,) = problem["errors"]
    assert (error["row"], error["pointer"]) == (2, "#/orders/1/prompt")
    assert (await get(client, "/v1/jobs"))["results"] == []
    assert (await get(client, "/v1/batches"))["results"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"orders": []}, "orders"),
        ({"name": "a b", "orders": [{"prompt": "a"}]}, "name"),
        ({}, "orders"),
        ({"orders": [{"prompt": "a"}], "matrix": {"prompts": ["a"]}}, "orders"),
        ({"matrix": {"prompts": []}}, "matrix.prompts"),
        ({"matrix": {"prompts": ["a"], "seeds": [-2]}}, "matrix.seeds.0"),
        ({"matrix": {"prompts": ["{0|1|2|3|4|5|6|7|8|9}" * 9]}}, "matrix"),
        ({"orders": [{"prompt": "a"}], "colour": "red"}, "colour"),
        ({"orders": [{"prompt": "a"}], "reuse": True}, "name"),
        ({"orders": {"prompt": "a"}}, "orders"),
    ],
)
async def test_a_wrong_body_is_told_its_field(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    problem = assert_problem(await client.post("/v1/batches", json=body), 422, "invalid_field")
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("data", ["prompt,seed\n", "prompt\n\n\n", ""])
async def test_a_file_without_an_order_is_refused(client: httpx.AsyncClient, data: str) -> None:
    assert_problem(await sent(client, data, CSV), 422, "invalid_field")
    assert_problem(await sent(client, "\n\n", LINES), 422, "invalid_field")


async def test_what_is_no_json_is_said(client: httpx.AsyncClient) -> None:
    kind = {"content-type": "application/json"}
    for data in (b'{"orders": [', b"\xff\xfe", b"[" * 200_000, b"[]1"):
        assert_problem(await sent(client, data, kind), 400, "invalid_json")
    assert_problem(await sent(client, b"[]", kind), 422, "invalid_field")
    assert_problem(
        await sent(client, "a", {"content-type": "text/plain"}), 415, "unsupported_media_type"
    )


async def test_orders_beyond_the_most_are_refused(transport: LocalTransport) -> None:
    async with serving(make_app(transport, max_batch_orders=3, max_batch_bytes=2000)) as client:
        table = "prompt,style_id\n" + "a,icon\n" * 4
        problem = assert_problem(await sent(client, table, CSV), 422, "invalid_field")
        assert "more than 3" in problem["errors"][0]["detail"]
        orders = [{"prompt": "a"}] * 4
        response = await client.post("/v1/batches", json=batch(orders=orders))
        assert_problem(response, 422, "invalid_field")
        big = await sent(client, "prompt\n" + "a" * 3000, CSV)
        assert_problem(big, 413, "body_too_large")


async def test_a_batch_over_the_cap_is_told_what_is_allowed(
    client: httpx.AsyncClient, world: World
) -> None:
    limit(world, max_pending=3, max_in_flight=0)
    await accepted(client)
    response = await client.post("/v1/batches", json=batch(name=None))
    problem = assert_problem(response, 429, "queue_full")
    assert "2 jobs" in problem["detail"]
    assert "1 more" in problem["detail"]
    assert len((await get(client, "/v1/jobs"))["results"]) == 2


async def test_the_same_key_for_another_file_is_refused(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = await sent(client, "prompt\na potion\n", CSV | key)
    again = await sent(client, "prompt\na potion\n", CSV | key)
    assert first.status_code == again.status_code == 202
    assert first.json()["batch_id"] == again.json()["batch_id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await sent(client, "prompt\na sword\n", CSV | key)
    assert_problem(other, 422, "idempotency_key_reuse")
    job = await client.post("/v1/generate", json={"prompt": "a potion"}, headers=key)
    assert_problem(job, 422, "idempotency_key_reuse")


async def test_a_key_finds_its_batch_when_it_could_not_be_made_any_more(
    client: httpx.AsyncClient,
) -> None:
    """Who was not answered sends the file again, whatever has been deleted meanwhile; nothing is resolved."""
    kind = {"content-type": "image/png"}
    picture = png(Image.new("RGB", (64, 64), "red"))
    upload = (await client.post("/v1/uploads", content=picture, headers=kind)).json()["upload_id"]
    body = batch({"prompt": "a", "init_image": {"upload_id": upload}, "strength": 0.5})
    key = {"Idempotency-Key": "once"}
    made = await client.post("/v1/batches", json=body, headers=key)
    assert made.status_code == 202, made.text
    await client.delete(f"/v1/uploads/{upload}")
    again = await client.post("/v1/batches", json=body, headers=key)
    assert again.status_code == 202, again.text
    assert again.json()["batch_id"] == made.json()["batch_id"]
    assert again.headers["idempotency-replayed"] == "true"
    new = await client.post("/v1/batches", json=body, headers={"Idempotency-Key": "two"})
    (error,) = assert_problem(new, 422, "invalid_field")["errors"]
    assert error["field"] == "init_image.upload_id"


async def test_what_a_json_body_says_itself_is_no_parameter(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/batches?name=a", json=batch())
    assert_problem(response, 422, "invalid_field")
    for query, field in (
        ("?reuse=true", "name"),
        ("?webhok=x", "webhok"),
        ("?name=a&seed=7", "seed"),
    ):
        response = await sent(client, "prompt\na potion\n", CSV, query)
        (error,) = assert_problem(response, 422, "invalid_field")["errors"]
        assert (error["field"], "pointer" in error) == (field, False)


async def test_waiting_holds_the_answer_until_all_is_done(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    headers = {"Prefer": "wait=20"}
    held = asyncio.create_task(client.post("/v1/batches", json=batch(), headers=headers))
    await world.until(lambda: len(world.launcher.running) == 2)
    await draw_all(world, transport)
    response = await held
    assert response.status_code == 200
    assert response.json()["status"] == "SUCCESS"
    assert response.headers["preference-applied"] == "wait=20"


async def test_a_stream_tells_of_a_batch_until_it_is_final(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    made = await accepted(client)
    reading = asyncio.create_task(client.get(made["urls"]["events"]))
    await world.until(lambda: len(world.launcher.running) == 2)
    await draw_all(world, transport)
    lines = (await reading).text.splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert told[0]["status"] == "PENDING"
    assert (told[-1]["status"], told[-1]["progress"]["done"]) == ("SUCCESS", 2)
    last = [line[4:] for line in lines if line.startswith("id: ")][-1]
    again = await client.get(made["urls"]["events"], headers={"Last-Event-ID": last})
    assert again.status_code == 204


async def test_cancelling_and_ordering_again(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Only what has no pictures is ordered again; a repeated retry orders nothing twice."""
    limit(world, max_in_flight=1)
    made = await accepted(client)
    await world.until(lambda: world.launcher.running)
    ((job_id, fence),) = world.launcher.running
    await draw(world, job_id, [sprite()], fence)
    cancelled = await client.post(made["urls"]["cancel"])
    assert cancelled.json()["status"] == "REVOKED"
    assert cancelled.json()["counts"]["REVOKED"] == 1
    for _ in range(2):
        response = await client.post(made["urls"]["retry"])
        assert response.status_code == 202
        counts = response.json()["counts"]
        assert (counts["SUCCESS"], counts["PENDING"] + counts["STARTED"]) == (1, 1)
    jobs = await jobs_of(client, made)
    assert jobs[1]["retry_of"]
    assert jobs[1]["batch_id"] == made["batch_id"]
    await draw_all(world, transport)
    assert (await get(client, made["urls"]["self"]))["status"] == "SUCCESS"


async def test_what_another_batch_stands_for_is_left_when_one_is_cancelled(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Its archive has nothing of it; a retry takes it up again."""
    limit(world, max_in_flight=0)
    first, second = await accepted(client), await accepted(client)
    cancelled = (await client.post(first["urls"]["cancel"])).json()
    assert (cancelled["status"], cancelled["counts"]["REVOKED"]) == ("REVOKED", 2)
    assert (await get(client, second["urls"]["self"]))["counts"]["PENDING"] == 2
    limit(world, max_in_flight=1)
    world.registry.resume()
    await draw_all(world, transport)
    with await archived(client, first) as found:
        rows = json.loads(found.read("manifest.json"))["rows"]
    assert [(row["status"], row["code"], row.get("file")) for row in rows] == [
        ("REVOKED", "cancelled", None)
    ] * 2
    again = (await client.post(first["urls"]["retry"])).json()
    assert (again["status"], again["counts"]["SUCCESS"]) == ("SUCCESS", 2)
    listed = await get(client, first["urls"]["rows"])
    assert [row["job_id"] for row in listed["results"]] == [
        job["job_id"] for job in await jobs_of(client, second)
    ]


async def test_rows_tell_what_stands_for_each_order(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    named = [{**POTIONS[0], "name": "red"}, POTIONS[1]]
    made = await accepted(client, orders=named)
    await draw_all(world, transport)
    await client.delete((await jobs_of(client, made))[1]["urls"]["self"])
    page = await get(client, made["urls"]["rows"] + "?limit=1")
    assert page["results"][0] | {"job_id": ""} == {
        "row": 1, "name": "red", "status": "SUCCESS", "job_id": "", "reused": False,
    }  # fmt: skip
    rest = await get(client, page["next"])
    assert rest == {
        "next": None,
        "results": [{"row": 2, "name": None, "status": "DELETED", "job_id": None, "reused": False}],
    }
    again = await accepted(client, orders=[{**POTIONS[0], "name": "crimson"}])
    (row,) = (await get(client, again["urls"]["rows"]))["results"]
    assert (row["name"], row["reused"]) == ("crimson", True)
    for wrong in ("after=-1", "limit=501"):
        reply = await client.get(f"{made['urls']['rows']}?{wrong}")
        assert_problem(reply, 422, "invalid_field")


async def test_a_retry_keeps_the_pictures_that_orders_begin_with(
    client: httpx.AsyncClient, world: World, tmp_path: Path
) -> None:
    """Once for all rows that name the same one. A picture that nobody keeps is told with its row."""
    limit(world, max_in_flight=0)
    picture = png(Image.new("RGB", (64, 64), "red"))
    kind = {"content-type": "image/png"}
    upload = (await client.post("/v1/uploads", content=picture, headers=kind)).json()["upload_id"]
    order = {"prompt": "a", "init_image": {"upload_id": upload}, "strength": 0.5}
    made = await accepted(client, orders=[POTIONS[0], order, {**order, "prompt": "b"}])
    await client.post(made["urls"]["cancel"])
    await client.delete(f"/v1/uploads/{upload}")
    assert (await client.post(made["urls"]["retry"])).status_code == 202
    rows = await world.registry.batch_rows(made["batch_id"], "local", 1, 9, False)
    kept = [row["job"]["params"]["init_image"]["upload_id"] for row in rows if row["job"]]
    assert kept[0] == kept[1] != upload
    await client.post(made["urls"]["cancel"])
    for file in (tmp_path / "out" / FOLDER).iterdir():
        file.unlink()
    reply = await client.post(made["urls"]["retry"])
    (error,) = assert_problem(reply, 422, "invalid_field")["errors"]
    assert (error["row"], error["field"]) == (2, "init_image")
    assert (await get(client, made["urls"]["self"]))["counts"]["REVOKED"] == 3


async def test_failed_orders_are_told_with_their_rows(
    client: httpx.AsyncClient, world: World
) -> None:
    made = await accepted(client)
    await world.until(lambda: len(world.launcher.running) == 2)
    jobs = await jobs_of(client, made)
    await world.started(jobs[1]["job_id"])
    await world.fail(jobs[1]["job_id"], 1)
    (failed,) = (await get(client, made["urls"]["self"]))["failed"]
    assert (failed["row"], failed["job_id"]) == (2, jobs[1]["job_id"])
    assert failed["code"] == "non_finite"


async def test_the_list_of_batches_goes_on_from_page_to_page(client: httpx.AsyncClient) -> None:
    made = [await accepted(client, name=f"b{n % 2}") for n in range(5)]
    ids = [one["batch_id"] for one in reversed(made)]
    page = await get(client, "/v1/batches?limit=2")
    found = [one["batch_id"] for one in page["results"]]
    while page["next"]:
        page = await get(client, page["next"])
        found += [one["batch_id"] for one in page["results"]]
    assert found == ids
    odd = await get(client, "/v1/batches?name=b1&status=PENDING")
    assert [one["batch_id"] for one in odd["results"]] == [ids[1], ids[3]]
    assert_problem(await client.get("/v1/batches?cursor=abc"), 422, "invalid_field")


async def test_an_archive_holds_every_file_and_says_where_it_is_from(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    made = await accepted(
        client,
        orders=[
            {"prompt": "=HYPERLINK(1)", "name": "hero"},
            {"prompt": "two at once", "n": 2, "seed": 3},
        ],
    )
    await world.until(lambda: len(world.launcher.running) == 2)
    (_, first), (_, second) = sorted(
        (ticket["summary"]["n"], job_id)
        for (job_id, _), (ticket, _) in world.launcher.running.items()
    )
    await draw(world, first, [sprite()])
    await draw(world, second, [sprite(seed=1), sprite(seed=2)])
    await transport.caught_up()
    found = await archived(client, made)
    assert found.testzip() is None
    names = found.namelist()
    assert names == [
        "00001_hero.png",
        "00002_two_at_once_3_0.png",
        "00002_two_at_once_4_1.png",
        "manifest.csv",
        "manifest.json",
    ]
    said = json.loads(found.read("manifest.json"))
    assert [row["file"] for row in said["rows"]] == names[:3]
    jobs = await jobs_of(client, made)
    urls = [url for job in jobs for url in job["result_urls"]]
    for name, url in zip(names, urls, strict=False):
        assert found.read(name) == (await client.get(url)).content
        assert Image.open(io.BytesIO(found.read(name))).format == "PNG"
    (line, *_) = csv.DictReader(io.StringIO(found.read("manifest.csv").decode("utf-8-sig")))
    assert line["prompt"] == "'=HYPERLINK(1)"
    named = await archived(client, made, "?names={style}/{row:3}_{seed}")
    assert named.namelist()[1:3] == ["icon/002_3_0.png", "icon/002_4_1.png"]


async def test_an_archive_of_a_running_batch_is_refused_unless_asked_for(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    limit(world, max_in_flight=1)
    made = await accepted(client)
    await world.until(lambda: world.launcher.running)
    ((job_id, fence),) = world.launcher.running
    await draw(world, job_id, [sprite()], fence)
    await transport.caught_up()
    problem = assert_problem(await client.get(made["urls"]["archive"]), 409, "not_final")
    assert "1 of its 2" in problem["detail"]
    found = await archived(client, made, "?partial=true")
    assert len(found.namelist()) == 3
    said = json.loads(found.read("manifest.json"))["rows"]
    assert said[0]["status"] == "SUCCESS"
    assert said[1]["file"] is None


async def test_an_archive_lacks_what_was_deleted_and_says_so(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    made = await accepted(client)
    await draw_all(world, transport)
    first, second = await jobs_of(client, made)
    (path,) = second["result_urls"]
    (world.files.root / path.removeprefix("/output/")).unlink()
    await client.delete(first["urls"]["self"])
    found = await archived(client, made)
    rows = json.loads(found.read("manifest.json"))["rows"]
    assert [(row["status"], row["code"]) for row in rows] == [
        ("DELETED", None),
        ("SUCCESS", "source_missing"),
    ]
    await client.delete(second["urls"]["self"])
    for path in ("", "/archive", "/events", "/rows"):
        assert_problem(await client.get(f"{made['urls']['self']}{path}"), 410, "deleted")


async def test_a_batch_of_another_owner_is_not_there(
    transport: LocalTransport, tmp_path: Path
) -> None:
    ann, bob = keys_of(tmp_path / "keys", "ann", "bob")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        made = (await client.post("/v1/batches", json=batch(), headers=ann)).json()
        own = made["urls"]["self"]
        for method, path in (
            *(("GET", ""), ("GET", "/archive"), ("GET", "/events"), ("GET", "/rows")),
            *(("POST", "/cancel"), ("POST", "/retry")),
        ):
            response = await client.request(method, own + path, headers=bob)
            assert_problem(response, 404, "not_found")
        assert (await client.get("/v1/batches", headers=bob)).json()["results"] == []
        jobs = await client.get(made["urls"]["jobs"], headers=bob)
        assert jobs.json()["results"] == []
        assert (await client.get(own, headers=ann)).json()["counts"]["REVOKED"] == 0
    for unknown in ("no-id", "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"):
        async with serving(make_app(transport)) as client:
            assert_problem(await client.get(f"/v1/batches/{unknown}"), 404, "not_found")


@pytest.mark.parametrize("names", ["{colour}", "{row", "x" * 300])
async def test_a_template_that_is_none_is_refused(client: httpx.AsyncClient, names: str) -> None:
    made = await accepted(client)
    response = await client.get(made["urls"]["archive"], params={"names": names})
    assert_problem(response, 422, "invalid_field")


async def test_while_the_registry_is_away_nothing_is_accepted(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    transport.down = True
    assert_problem(await client.post("/v1/batches", json=batch()), 503, "unavailable")
    transport.down = False
    assert (await get(client, "/v1/batches"))["results"] == []


async def test_a_job_of_a_batch_ordered_again_alone_is_none_of_it(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    made = await accepted(client)
    await draw_all(world, transport)
    job, _ = await jobs_of(client, made)
    again = await client.post(job["urls"]["retry"])
    assert again.json()["batch_id"] is None
    assert (await get(client, made["urls"]["self"]))["size"] == 2


async def test_a_sheet_takes_the_pictures_of_a_batch(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    made = await accepted(client)
    sheet = {"batch_id": made["batch_id"], "name": "potions"}
    none = await client.post("/v1/sheets", json=sheet)
    assert assert_problem(none, 422, "invalid_field")["errors"][0]["field"] == "batch_id"
    await draw_all(world, transport)
    job = (await client.post("/v1/sheets", json=sheet)).json()
    await worked(world, job["job_id"])
    await transport.caught_up()
    packed = await get(client, job["urls"]["self"])
    assert packed["status"] == "SUCCESS", packed["error"]
    both = await client.post("/v1/sheets", json=sheet | {"tag": "a"})
    assert_problem(both, 422, "invalid_field")


async def test_pictures_that_orders_begin_with_are_found_once_and_told_by_row(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    source = Image.new("RGB", (64, 64), "red")
    sent_picture = await client.post(
        "/v1/uploads", content=png(source), headers={"content-type": "image/png"}
    )
    upload = {"upload_id": sent_picture.json()["upload_id"]}
    order = {"prompt": "a", "init_image": upload, "strength": 0.5}
    made = await accepted(client, orders=[order, order | {"prompt": "b"}])
    jobs = await jobs_of(client, made)
    assert [job["request"]["init_image"] for job in jobs] == [upload, upload]
    wrong = {"prompt": "c", "init_image": {"upload_id": made["batch_id"]}}
    problem = assert_problem(
        await client.post("/v1/batches", json=batch(order, wrong)), 422, "invalid_field"
    )
    (error,) = problem["errors"]
    assert (error["row"], error["field"]) == (2, "init_image.upload_id")
