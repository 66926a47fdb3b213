"""What attempts left behind is removed, also after a restart; finished jobs expire if they are to."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve_app.artifacts.brought import encoded
from serve_app.artifacts.uploads import Quota
from serve_app.jobs import cleaning
from serve_app.messages import Summary

from .harness import Folder, World

# ---- files ----


async def test_losers_files_are_swept_at_start(tmp_path: Path) -> None:
    """Files of attempts that lost go; published ones, and files of unknown jobs, stay."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.draw(job_id, 2)
        await world.idle()
        world.files.put(job_id, 1)  # by a task that outlived its registry for a moment
        world.files.put("someone-elses", 1)
        await world.die_and_rise()
        await world.until(lambda: f"{job_id}_1.png" not in world.files.names())
        assert world.files.names() == sorted([f"{job_id}_2.png", "someone-elses_1.png"])


async def test_files_of_a_job_whose_delete_was_cut_short_are_swept(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id, kept = await world.submit(), await world.submit()
        await world.draw(job_id)
        await world.draw(kept)
        job = await world.registry._store.get(job_id)
        assert job is not None
        await world.registry._store.bury([job], "deleted", 1.0)  # and no further
        assert len(world.files.names()) == 2
        await world.die_and_rise()
        await world.until(lambda: world.files.names() == [f"{kept}_1.png"])


async def test_a_sweep_that_was_cut_short_is_done_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that dies again and again leaves no files for good."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.draw(job_id, 2)
        await world.idle()
        world.files.put(job_id, 1)  # by a task that outlived its attempt

        def broken(*_: Any) -> Any:
            raise OSError("gone for a while")

        with monkeypatch.context() as patch:
            patch.setattr("tests.jobs.harness.Folder.files_of", broken)
            for _ in range(3):
                await world.die_and_rise()
                await world.draw(await world.submit())
        assert f"{job_id}_1.png" in world.files.names()
        await world.die_and_rise()
        await world.until(lambda: f"{job_id}_1.png" not in world.files.names())
        assert f"{job_id}_2.png" in world.files.names()
        async with asyncio.timeout(10):
            while await world.registry._store.littering():
                pass  # what was swept is not looked at again


async def test_files_are_looked_for_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was launched six thousand times in a night without a renderer blocks nobody at its end."""
    asked_by: list[threading.Thread] = []
    names_for = Folder.names_for

    def noted(folder: Folder, job_id: str, summary: Summary, fence: int) -> list[str]:
        asked_by.append(threading.current_thread())
        return names_for(folder, job_id, summary, fence)

    monkeypatch.setattr(Folder, "names_for", noted)
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        await world.registry.cancel(job_id, "ann")
    assert asked_by
    assert threading.current_thread() not in asked_by


# ---- retention ----


async def test_what_is_gone_for_long_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "RETIRE_EVERY_S", 0.01)
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.draw(job_id)
        await world.registry.delete(job_id, "ann")
        monkeypatch.setattr(cleaning, "GONE_KEPT_S", 0.0)
        await world.die_and_rise()
        async with asyncio.timeout(10):
            while await world.registry.get(job_id) is not None:
                await world.see_ingress()
        monkeypatch.setattr(cleaning, "GONE_KEPT_S", 60.0)
        kept = await world.submit()
        await world.draw(kept)
        await world.registry.delete(kept, "ann")
        await world.die_and_rise()
        assert await world.status(kept) == "deleted"


async def test_finished_jobs_expire_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "RETIRE_EVERY_S", 0.01)
    async with World(tmp_path, {"retention_s": 0.05}) as world:
        waiting = await world.submit()
        await world.started(waiting)
        ends = {"SUCCESS": await world.submit(), "REVOKED": await world.submit()}
        await world.started(ends["SUCCESS"])
        image = world.files.put(ends["SUCCESS"], 1)
        await world.finish(ends["SUCCESS"], 1, [image])
        await world.registry.cancel(ends["REVOKED"], "ann")
        for job_id in ends.values():
            await world.becomes(job_id, "expired")
            assert await world.registry.delete(job_id, "ann") == {
                "job_id": job_id,
                "owner": "ann",
                "gone": "expired",
            }
        await world.until(lambda: not world.files.names())
        assert await world.status(waiting) == "STARTED"


async def test_a_backlog_of_expired_jobs_goes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "RETIRED_AT_ONCE", 2)
    async with World(tmp_path) as world:
        jobs = [await world.submit() for _ in range(5)]
        for job_id in jobs:
            await world.draw(job_id)
        assert (await world.look(jobs[0]))["expires_at"] is None
        world.limits["retention_s"] = 3600
        await world.die_and_rise()
        view = await world.look(jobs[0])
        assert view["completed_at"] is not None
        assert view["expires_at"] == view["completed_at"] + 3600
        world.limits["retention_s"] = 1e-6
        await world.die_and_rise()
        await world.until(lambda: not world.files.names())
        assert [await world.status(job_id) for job_id in jobs] == ["expired"] * 5


async def test_an_upload_outlives_its_time_while_a_job_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over a restart, and wherever in the order it is named; then it goes."""
    monkeypatch.setattr(cleaning, "RETIRE_EVERY_S", 0.01)
    async with World(tmp_path, limits={"max_in_flight": 0}) as world:
        uploads = world.files.uploads
        ample = Quota(9, 2**20)
        now = time.time()
        held, free = (
            uploads.add(
                "ann",
                encoded(Image.new("RGB", (1, height))),
                now=now,
                expires_at=int(now),
                quota=ample,
            )[0]
            for height in (1, 2)
        )
        job_id = await world.submit(params={"pictures": [{"upload_id": held.upload.upload_id}]})
        monkeypatch.setattr(cleaning, "UPLOAD_GRACE_S", -10.0)
        await world.until(lambda: free.upload.upload_id not in uploads.over(now + 1))
        await world.die_and_rise()
        swept = asyncio.Event()
        real = type(world.registry._store).uploads_in_use

        async def looked(store: Any) -> set[str]:
            found = await real(store)
            swept.set()
            return found

        monkeypatch.setattr(type(world.registry._store), "uploads_in_use", looked)
        await asyncio.wait_for(swept.wait(), 10)
        assert uploads.read(held.upload.upload_id, held.upload.sha256)
        await world.registry.cancel(job_id, "ann")
        await world.until(lambda: uploads.over(now + 1) == [])
