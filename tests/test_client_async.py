"""AsyncClient: the same methods as Client, awaited, and a client that leaves an archive in the middle."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path

import httpx
import pytest

from serve_app.client import AsyncClient, Batch, Client, Rejected
from tests.api.harness import Site, site
from tests.cli.harness import draw_all
from tests.cluster.service import wait_until


def test_every_method_is_there() -> None:
    public = {name for name, _ in inspect.getmembers(Client) if not name.startswith("_")}
    assert public - {"close"} <= {name for name, _ in inspect.getmembers(AsyncClient)}


async def ordered(service: Site, directory: Path) -> Batch:
    async with AsyncClient(service.url) as client:
        batch = await client.order_batch(
            matrix={"prompts": ["a {red|blue} key"], "seeds": [1, 2]},
            name="keys",
            defaults={"style_id": "icon"},
        )
        states: list[Batch] = []
        batch = await client.wait_batch(batch.batch_id, on_progress=states.append)
        assert states[-1] == batch
        archive = await client.batch_archive(batch.batch_id, directory / "keys.zip")
        assert archive.read_bytes().startswith(b"PK")
        jobs = [job.job_id async for job in client.jobs(batch_id=batch.batch_id)]
        assert len(jobs) == batch.size == 4
        with pytest.raises(Rejected, match="row 1, prompt"):
            await client.order_batch([{"prompt": ""}])
    return batch


def test_a_batch_is_ordered_awaited_and_fetched(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site") as service:
        drawing = service.portal.start_task_soon(draw_all, service.world)
        assert asyncio.run(ordered(service, tmp_path)).status == "SUCCESS"
        drawing.cancel()


def open_files() -> set[str]:
    found: set[str] = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.add(os.readlink(fd))  # noqa: PTH115 - a name, whether it is there or not
        except FileNotFoundError:
            continue
    return found


def test_a_client_that_leaves_an_archive_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither the file that was sent, nor the manifests, nor a seat."""
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site") as service:
        drawing = service.portal.start_task_soon(draw_all, service.world)
        with Client(service.url) as client:
            batch = client.order_batch(
                [{"prompt": "a key"}, {"prompt": "a door"}], defaults={"style_id": "icon"}
            )
            batch = client.wait_batch(batch.batch_id)
            jobs = [*client.jobs(batch_id=batch.batch_id)]
        output = service.world.files.root
        for job in jobs:
            (path,) = [image.url.removeprefix("/output/") for image in job.images]
            with (output / path).open("wb") as file:
                file.truncate(2**30)  # far more than any socket holds

        def is_ours(path: str) -> bool:
            return path.startswith(str(output)) or "(deleted)" in path

        before = open_files()
        with httpx.stream("GET", service.url + batch.raw["urls"]["archive"]) as reply:
            assert reply.status_code == 200
            pieces = reply.iter_raw()  # kept: the connection ends with it
            next(pieces)
            assert any(map(is_ours, open_files() - before)), "a file is being sent"

        wait_until(lambda: not any(map(is_ours, open_files() - before)), 20, "nothing open")
        drawing.cancel()
