"""A cancelled batch ends with all its rows in one transaction, and whoever is to be told of each job is."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.jobs.job import Status
from serve_app.jobs.store import cancelling
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import Webhook
from tests.factories import labels
from tests.jobs.harness import ERROR
from tests.jobs.store.test_batches import insert, new_rows

HOOK = Webhook(url="https://build.example/job", events=["completed"], root="")


async def test_every_job_ends_and_work_that_runs_is_told_of_first(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    batch = await insert(store, new_rows("a", "b", "c", "d"))
    waits, runs, again, done = batch.fresh
    at = time.time()
    for one, status in (
        (runs, Status.STARTED),
        (again, Status.RETRY),
        (done, Status.SUCCESS),
    ):
        moved = one.evolve(status=status, alone=True, completed_at=at if status.terminal else None)
        await store.update(moved, expected_fence=0)
    revoked = await store.batches.revoke(waits.number, at, ERROR)
    assert [*revoked.items()] == [(one.job_id, one.number) for one in (runs, again, waits)]
    for job in await store.numbered([*revoked.values()]):
        ended = (job.status, job.error, job.completed_at, job.alone)
        assert ended == (Status.REVOKED, ERROR, at, False)
    assert not await store.live()
    assert {*await store.littering()} == {runs.job_id, again.job_id, waits.job_id}
    assert await store.batches.revoke(waits.number, at + 1, ERROR) == {}
    stored = await store.batches.get(batch.batch_id)
    assert stored is not None
    assert (stored.completed_at, stored.counts["REVOKED"], stored.changes) == (at, 3, 6)
    await store.close()


async def test_a_webhook_of_a_job_is_told_of_its_end(tmp_path: Path) -> None:
    """And nobody else's, whatever a client calls its metadata."""
    store = SqliteStore(tmp_path)
    rows = new_rows("a", "b", "c")
    for i, more in (0, {"webhook": HOOK}), (1, {"metadata": {"webhook": HOOK}}):
        job = rows[i].job.evolve(labels=labels(tags=[], **more))
        rows[i] = replace(rows[i], job=job)
    await insert(store, rows)
    await store.batches.revoke(rows[0].job.number, 9.0, ERROR)
    (due,) = await store.outbox.due(1e12)
    body = json.loads(due.parcel["body"])
    assert (body["type"], body["data"]["job_id"]) == ("job.completed", rows[0].job.job_id)
    assert body["data"]["status"] == "REVOKED"
    await store.close()


async def test_a_batch_ends_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails at the last of its events undoes the end of every row."""
    store = SqliteStore(tmp_path)
    rows = new_rows("a", "b")
    rows[1] = replace(rows[1], job=rows[1].job.evolve(labels=labels(webhook=HOOK)))
    batch = await insert(store, rows)

    def fails(*_: object) -> None:
        raise ValueError("the disk, the code, anything")

    with monkeypatch.context() as patched:
        patched.setattr(cancelling, "post", fails)
        with pytest.raises(ValueError, match="anything"):
            await store.batches.revoke(rows[0].job.number, 9.0, ERROR)
    stored = await store.batches.get(batch.batch_id)
    assert stored is not None
    assert (stored.counts["PENDING"], stored.completed_at) == (2, None)
    assert len(await store.live()) == 2
    await store.close()
