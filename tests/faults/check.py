"""The promises. Each is a function: what clients were told and what was found go in, and one line of text
comes out for every time the promise was broken.

Reads no file and asks nobody, so that a test can show that each of them notices.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serve_app.messages import TERMINAL

from .evidence import Evidence, grown
from .notebook import end_changes
from .orders import ROWS, SOURCE_IMAGES, Motif, PlannedOrder, batch_row
from .pixels import Pixels, levels_apart, published
from .receipt import Answer, Job, Receipt, unix

MAX_ATTEMPTS = 3  # the service's default
EMPTY = ("live", "waiting", "in_flight", "losses", "later", "previewed", "deadlines", "promised")
"""The registry's stats that are 0 when every job has ended."""
WITH_TASKS = frozenset({"finished", "derived", "sheet"})
"""Shapes of jobs whose own task works on pixels."""
JOB_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Case:
    receipts: list[Receipt]
    found: Evidence
    deaths: list[float]  # of renderers; unix seconds
    references: dict[Motif, Pixels]
    pixels: Callable[[Job], Pixels]
    earlier: frozenset[str] = frozenset()  # ids of jobs from before the campaign

    def jobs(self) -> Iterator[tuple[PlannedOrder, Job]]:
        """Every job of the campaign, also those whose answer was lost."""
        orders = {receipt.order.name: receipt.order for receipt in self.receipts}
        for job_id, job in self.found.jobs.items():
            if job_id not in self.earlier and (order := orders.get(order_name(job))) is not None:
                yield order, job


def violations(case: Case) -> list[str]:
    return [line for check in CHECKS for line in check(case)]


def order_name(job: Job) -> str:
    """From the job's tags: they tell it even if no answer to the order came."""
    return next((tag[6:] for tag in job["tags"] if tag.startswith("order:")), "")


# ---- which jobs there are ----


def nothing_lost(case: Case) -> Iterator[str]:
    for receipt in case.receipts:
        if receipt.unsettled:
            yield f"lost: {receipt.name}: its key was never answered"
        if receipt.job_id is None or receipt.delete_asked:
            continue
        job = case.found.jobs.get(receipt.job_id)
        if job is None:
            yield f"lost: {receipt.name} is not listed"
        elif job["status"] not in TERMINAL:
            yield f"lost: {receipt.name} is still {job['status']}"


def nothing_doubled(case: Case) -> Iterator[str]:
    """Each order without an answer may be one job more; those refused or cut off may not."""
    known: dict[tuple[str, str | None], list[Receipt]] = defaultdict(list)
    for receipt in case.receipts:
        known[receipt.order.name, receipt.retry_of].append(receipt)
    there: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for job_id, job in case.found.jobs.items():
        if job_id not in case.earlier:
            there[order_name(job), job["retry_of"]].add(job_id)
    for which, job_ids in there.items():
        receipts = known[which]
        more = job_ids - {receipt.job_id for receipt in receipts}
        if len(more) > sum(receipt.answer is Answer.NONE for receipt in receipts):
            told = [f"{receipt.name} {receipt.answer}" for receipt in receipts]
            yield f"doubled: {sorted(more)} of {which}; known: {told}"


def batches_are_whole(case: Case) -> Iterator[str]:
    """All rows of a batch are there, or none is; and no batch is there twice. A job that somebody deleted was
    there."""
    found = {i: order_name(job) for i, job in case.found.jobs.items() if job["retry_of"] is None}
    deleted = {r.job_id: r.order.name for r in case.receipts if r.delete_asked and r.job_id}
    rows: dict[str, set[int]] = defaultdict(set)
    ids: dict[str, set[str]] = defaultdict(set)
    for job_id, name in (deleted | found).items():
        if (which := batch_row(name)) is not None:
            rows[which[0]].add(which[1])
            if job_id in found:
                ids[which[0]].add(case.found.jobs[job_id]["batch_id"])
    for batch, there in rows.items():
        if there != set(range(ROWS)):
            yield f"lost: of {batch} only the rows {sorted(there)} are there"
        if len(ids[batch]) > 1:
            yield f"doubled: {batch} is {sorted(ids[batch])}"


def rows_match(case: Case) -> Iterator[str]:
    for job_id in sorted(case.found.rows ^ case.found.jobs.keys()):
        yield f"rows: {job_id} is {'on disk' if job_id in case.found.rows else 'listed'} only"


def deleted_is_gone(case: Case) -> Iterator[str]:
    for receipt in case.receipts:
        if receipt.deleted and receipt.job_id is not None:
            if case.found.deleted[receipt.job_id] != "410 deleted":
                yield f"deleted: {receipt.name} answers {case.found.deleted[receipt.job_id]}"
            if receipt.job_id in case.found.jobs:
                yield f"deleted: {receipt.name} is listed"
    for url, status in case.found.served.items():
        job_id = JOB_ID.search(url)
        if status != 404 and (job_id is None or job_id[0] not in case.found.jobs):
            yield f"deleted: {url} answers {status}"


# ---- how they ended ----


def ends_stay(case: Case) -> Iterator[str]:
    for receipt in case.receipts:
        job = case.found.jobs.get(receipt.job_id or "")
        if receipt.end is not None and job is not None:
            yield from end_changes(receipt, job)


def ends_are_right(case: Case) -> Iterator[str]:
    """Nothing fails but what killed its renderer; nothing is revoked but on demand."""
    asked = {r.job_id for r in case.receipts if r.cancel_asked or r.delete_asked}
    for order, job in case.jobs():
        told = f"{order.name} ({order.motif.shape}) {job['job_id']}"
        code = (job["error"] or {}).get("code")
        match job["status"], code:
            case "SUCCESS", None:
                if order.expires:
                    yield f"end: {told} ended before its deadline"
            case "FAILURE", "renderer_died" | "task_died":
                if job["attempts"] < MAX_ATTEMPTS:
                    yield f"end: {told} gave up after {job['attempts']} attempts"
            case "REVOKED", "cancelled":
                if job["job_id"] not in asked:
                    yield f"end: {told} was cancelled by nobody"
            case "REVOKED", "deadline_exceeded":
                if not order.expires or unix(job["completed_at"]) < unix(job["deadline"]) - 0.1:
                    yield f"end: {told} was revoked before its deadline"
            case status, _:
                yield f"end: {told}: {status} with {job['error']}"


def attempts_are_deaths(case: Case) -> Iterator[str]:
    for order, job in case.jobs():
        # The death of a task that works on pixels counts too, and is noted nowhere.
        if job["completed_at"] is None or order.motif.shape in WITH_TASKS:
            continue
        began, ended = unix(job["created_at"]), unix(job["completed_at"])
        most = sum(began - 1 <= death <= ended + 1 for death in case.deaths)
        if job["attempts"] > most:
            yield f"attempts: {order.name} {job['job_id']} counts {job['attempts']}, {most} died"


# ---- what is in the files ----


def one_set_of_files(case: Case) -> Iterator[str]:
    by_job: dict[str, set[str]] = defaultdict(set)
    for path in case.found.files:
        job_id = JOB_ID.search(path)
        if job_id is None or job_id[0] not in case.found.jobs:
            yield f"files: {path} belongs to no job"
        else:
            by_job[job_id[0]].add(path)
    for job_id, job in case.found.jobs.items():
        paths = published(job)
        if by_job[job_id] != paths.keys():
            yield f"files: {job_id} {job['status']} has {sorted(by_job[job_id])}, shows {list(paths)}"
        wanted = _images(job) if job["status"] == "SUCCESS" else 0
        if [image["index"] for image in job["images"]] != list(range(wanted)):
            yield f"files: {job_id} {job['status']} shows {list(paths)} of {wanted}"
        for path, sha256 in paths.items():
            if case.found.files.get(path) != sha256:
                yield f"files: {path} is not what was published"


def _images(job: Job) -> int:
    """How many it was ordered of."""
    return {"derive": SOURCE_IMAGES, "sheet": 1}.get(job["kind"]) or job["request"]["n"]


def same_pixels(case: Case) -> Iterator[str]:
    for order, job in case.jobs():
        if job["status"] != "SUCCESS" or not published(job).keys() <= case.found.files.keys():
            continue
        apart = levels_apart(case.pixels(job), case.references[order.motif])
        if apart > (0 if order.motif.strict else 1):
            yield f"pixels: {order.name} {order.motif} {job['job_id']}: {apart} levels apart"


# ---- what is left when every job has ended ----


def nothing_is_drawn(case: Case) -> Iterator[str]:
    for stats in case.found.renderers:
        if stats["live"] or stats["waiting"] or stats["jobs"]:
            yield f"work: a renderer still draws, though every job has ended: {stats}"
    if not case.found.renderers:
        yield "work: no renderer says what it does"
    kept = {name: case.found.registry.get(name, "unknown") for name in EMPTY}
    if any(kept.values()):
        yield f"leak: the registry keeps {kept}"


def nothing_leaks(case: Case) -> Iterator[str]:
    for line in grown(case.found.before, case.found.after):
        yield f"leak: {line}"


CHECKS: tuple[Callable[[Case], Iterator[str]], ...] = (
    nothing_lost,
    nothing_doubled,
    batches_are_whole,
    rows_match,
    deleted_is_gone,
    ends_stay,
    ends_are_right,
    attempts_are_deaths,
    one_set_of_files,
    same_pixels,
    nothing_is_drawn,
    nothing_leaks,
)
