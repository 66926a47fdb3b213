"""Each check notices its own kind of broken promise, and says nothing of an ordinary history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .check import EMPTY, Case, violations
from .evidence import Evidence, Use
from .journal import Journal
from .notebook import Notebook
from .orders import ROWS, Motif, PlannedOrder
from .pixels import Pixels
from .receipt import Answer, Job, Receipt

MOTIF = Motif("short", 7)
PICTURE: Pixels = [np.zeros((2, 2, 3), np.int16)]
OTHER: Pixels = [np.ones((2, 2, 3), np.int16)]


def name_of(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012}"


def job_of(number: int, order: str, **changes: Any) -> Job:
    """A success."""
    url = f"/output/2026-11-22/none_7_{name_of(number)}_0_1.png"
    return {
        "job_id": name_of(number),
        "status": "SUCCESS",
        "images": [{"url": url, "index": 0, "sha256": "ab"}],
        "result_urls": [url],
        "error": None,
        "attempts": 0,
        "created_at": "2026-11-22T16:00:00Z",
        "started_at": "2026-11-22T16:00:01Z",
        "completed_at": "2026-11-22T16:00:02Z",
        "deadline": None,
        "retry_of": None,
        "tags": [f"order:{order}"],
        "kind": "generate",
        "request": {"n": 1},
    } | changes


def revoked(number: int, order: str, code: str) -> Job:
    ended = {"status": "REVOKED", "images": [], "result_urls": [], "error": {"code": code}}
    return job_of(number, order, **ended)


def history(*pairs: tuple[Receipt, Job | None]) -> Case:
    """Receipts and the jobs that were found for them, with all their files."""
    jobs = {job["job_id"]: job for _, job in pairs if job is not None}
    files = {
        image["url"].removeprefix("/output/"): image["sha256"]
        for job in jobs.values()
        for image in job["images"]
    }
    at_rest = {"live": 0, "waiting": 0, "jobs": 0}
    found = Evidence(
        jobs=jobs,
        rows=set(jobs),
        files=files,
        deleted={},
        served={},
        registry=dict.fromkeys(EMPTY, 0),
        renderers=[at_rest],
        before={"raylet": Use(1, 10, 20)},
        after={"raylet": Use(1, 11, 22)},
    )
    return Case([receipt for receipt, _ in pairs], found, [], {MOTIF: PICTURE}, lambda _: PICTURE)


def accepted(number: int, order: str, motif: Motif = MOTIF, **more: Any) -> Receipt:
    asked = PlannedOrder(order, "ann", motif)
    return Receipt(asked, answer=Answer.ACCEPTED, job_id=name_of(number), **more)


def ordinary() -> Case:
    """One success, one cancelled on demand, and one whose answer was lost."""
    return history(
        (accepted(1, "a-1"), job_of(1, "a-1")),
        (accepted(2, "a-2", cancel_asked=True), revoked(2, "a-2", "cancelled")),
        (Receipt(PlannedOrder("a-3", "ann", MOTIF)), job_of(3, "a-3")),
    )


def test_an_ordinary_history_breaks_no_promise() -> None:
    assert violations(ordinary()) == []


def found(case: Case, **changes: Any) -> Case:
    return replace(case, found=replace(case.found, **changes))


def first(case: Case, **changes: Any) -> Case:
    """The first job is not as it was."""
    return found(case, jobs=case.found.jobs | {name_of(1): job_of(1, "a-1", **changes)})


def one_more(case: Case) -> Case:
    """A second job of an order that was answered with the first."""
    job = job_of(4, "a-1", images=[], status="REVOKED", error={"code": "cancelled"})
    case.receipts[0].cancel_asked = True
    return found(
        case, jobs=case.found.jobs | {name_of(4): job}, rows=case.found.rows | {name_of(4)}
    )


def said_no(case: Case) -> Case:
    case.receipts[2].answer = Answer.REFUSED
    return case


def seen_otherwise(case: Case) -> Case:
    case.receipts[0].end = revoked(1, "a-1", "cancelled")
    return case


def uncancelled(case: Case) -> Case:
    case.receipts[1].cancel_asked = False
    return case


def deleted(case: Case) -> Case:
    case.receipts[0].delete_asked = case.receipts[0].deleted = True
    return found(case, deleted={name_of(1): "200"})


FAILED = {"status": "FAILURE", "images": [], "result_urls": [], "error": {"code": "internal"}}
STRAY = "2026-11-22/none_7_00000000-0000-7000-8000-000000000001_0_2.png"
WRONGS: list[tuple[str, Callable[[Case], Case]]] = [
    ("lost", lambda case: found(case, jobs={}, rows=set())),
    ("lost", lambda case: first(case, status="STARTED")),
    ("doubled", one_more),
    ("doubled", said_no),
    ("rows", lambda case: found(case, rows=set())),
    ("deleted", deleted),
    ("end changed", seen_otherwise),
    ("end", uncancelled),
    ("end", lambda case: first(case, **FAILED)),
    ("attempts", lambda case: first(case, attempts=1)),
    ("files", lambda case: first(case, request={"n": 2})),
    ("files", lambda case: found(case, files={})),
    ("files", lambda case: found(case, files=case.found.files | {STRAY: "ab"})),
    ("files", lambda case: found(case, files=dict.fromkeys(case.found.files, "cd"))),
    ("pixels", lambda case: replace(case, pixels=lambda _: OTHER)),
    ("work", lambda case: found(case, renderers=[{"live": 1, "waiting": 0, "jobs": 1}])),
    ("leak", lambda case: found(case, registry={**case.found.registry, "live": 1})),
    ("leak", lambda case: found(case, registry={})),
    ("leak", lambda case: found(case, after={"raylet": Use(1, 40, 22)})),
    ("leak", lambda case: found(case, after={"ray::job": Use(1, 10, 20)})),
]


@pytest.mark.parametrize(("kind", "spoil"), WRONGS)
def test_each_broken_promise_is_noticed(kind: str, spoil: Callable[[Case], Case]) -> None:
    assert kind in {line.split(":")[0] for line in violations(spoil(ordinary()))}


@pytest.mark.parametrize(
    ("rows", "batch_ids", "broken"),
    [
        (range(ROWS), "b" * ROWS, []),
        (range(ROWS - 1), "b" * ROWS, ["lost"]),
        (range(ROWS), "b" * (ROWS - 1) + "c", ["doubled"]),
    ],
)
def test_a_batch_is_there_whole_and_once(rows: range, batch_ids: str, broken: list[str]) -> None:
    pairs = [
        (accepted(row, f"a-b1.{row}"), job_of(row, f"a-b1.{row}", batch_id=batch_ids[row]))
        for row in rows
    ]
    assert [line.split(":")[0] for line in violations(history(*pairs))] == broken


def test_a_loose_order_may_be_one_level_off() -> None:
    loose = Motif("ddim", 7)
    case = history((accepted(1, "a-1", loose), job_of(1, "a-1")))
    near = replace(case, references={loose: PICTURE}, pixels=lambda _: OTHER)
    assert violations(near) == []


def test_the_notebook_notices_two_ids_for_one_key_and_an_end_that_goes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    notebook = Notebook(journal)
    receipt = notebook.add(Receipt(PlannedOrder("a-1", "ann", MOTIF)))
    notebook.accepted(receipt, job_of(1, "a-1"))
    notebook.accepted(receipt, job_of(2, "a-1"))
    notebook.saw(receipt, job_of(1, "a-1"), asked_at=0.0)
    notebook.saw(receipt, job_of(1, "a-1", status="STARTED"), asked_at=receipt.end_seen_at)
    notebook.saw(receipt, job_of(1, "a-1", status="STARTED"), asked_at=receipt.end_seen_at + 3)
    journal.close()
    assert [line.split(":")[0] for line in notebook.broken_promises] == ["doubled", "end changed"]
