"""The report: a table of faults and what came of them, the jobs in numbers, and every broken promise.

Knows Markdown; decides nothing: `check` found the broken promises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .evidence import Census
from .faults import FAULTS, REDIS_KILLED
from .receipt import Answer, Job, Receipt

HEAD = (
    "fault",
    "struck",
    "during recovery",
    "recovery s, median",
    "max",
    "live jobs, median",
    "running",
    "of them ran again",
    "counted an attempt",
)


@dataclass
class Struck:
    """One fault: what the service was doing when it struck, and how long it took to recover."""

    fault: str
    at_once: bool  # before the service had recovered from the fault before
    live: int  # jobs
    running: list[str]  # ids of the jobs that ran
    recovery_s: float | None = None


@dataclass
class Result:
    seed: int
    struck: list[Struck] = field(default_factory=list[Struck])
    receipts: list[Receipt] = field(default_factory=list[Receipt])
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    replays: int = 0
    before: Census = field(default_factory=Census)
    after: Census = field(default_factory=Census)
    broken: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    whole: bool = False  # False: the run was cut short

    @property
    def passed(self) -> bool:
        return self.whole and not self.broken


def render(result: Result) -> str:
    verdict = "every promise was kept" if result.passed else f"{len(result.broken)} broken promises"
    cut = "" if result.whole else " The run was cut short, so little was checked."
    lines = [
        "# Fault campaign",
        "",
        f"Seed {result.seed}, {len(result.struck)} faults in {result.seconds / 60:.1f} minutes: "
        f"{verdict}.{cut}",
        "",
        *_table(result),
        "",
        "A job that ran while several faults struck counts for each of them.",
        "",
        *_jobs(result),
        "",
        *_resources(result),
        "",
        "## Broken promises",
        "",
        *([f"- {line}" for line in result.broken] or ["None."]),
        "",
    ]
    return "\n".join(lines)


def _table(result: Result) -> list[str]:
    rows: list[Sequence[object]] = [HEAD, ["---"] * len(HEAD)]
    for fault in (*FAULTS, REDIS_KILLED):
        struck = [s for s in result.struck if s.fault == fault]
        if struck:
            rows.append(_row(fault, struck, result.jobs))
    return _markdown(rows)


def _markdown(rows: list[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def _row(fault: str, struck: list[Struck], jobs: dict[str, Job]) -> Sequence[object]:
    took = [s.recovery_s for s in struck if s.recovery_s is not None]
    running = [jobs[job_id] for s in struck for job_id in s.running if job_id in jobs]
    return (
        fault,
        len(struck),
        sum(s.at_once for s in struck),
        f"{median(took):.1f}" if took else "",
        f"{max(took):.1f}" if took else "",
        round(median(s.live for s in struck)),
        len(running),
        sum(fence_of(job) > 1 for job in running),
        sum(job["attempts"] > 0 for job in running),
    )


def _jobs(result: Result) -> list[str]:
    answers = Counter(receipt.answer for receipt in result.receipts)
    known = {receipt.job_id for receipt in result.receipts}
    successes = [job for job in result.jobs.values() if job["status"] == "SUCCESS"]
    return [
        f"- Orders and retries sent: {len(result.receipts)} ({_said(answers)}), "
        f"{sum(receipt.retry_of is not None for receipt in result.receipts)} of them retries; "
        f"{result.replays} orders were sent a second time with their key though they were answered.",
        f"- Never answered: {answers[Answer.NONE]}; {len(result.jobs.keys() - known)} of them "
        "turned out to be jobs.",
        f"- Cancels asked for: {sum(receipt.cancel_asked for receipt in result.receipts)}. "
        f"Deleted: {sum(receipt.deleted for receipt in result.receipts)}.",
        f"- Jobs at the end: {_said(Counter(job['status'] for job in result.jobs.values()))}.",
        f"- Successes by the fence they were published under: "
        f"{_said(Counter(fence_of(job) for job in successes))}.",
        f"- Kinds: {_said(Counter(r.order.motif.shape for r in result.receipts if r.job_id))}.",
    ]


def _resources(result: Result) -> list[str]:
    """Before the faults and at the end: processes, and threads and open files of the largest."""
    rows: list[Sequence[object]] = [("process", "number", "threads", "open files"), ["---"] * 4]
    for kind in sorted(result.before.keys() | result.after.keys()):
        was, now = result.before.get(kind, (0, 0, 0)), result.after.get(kind, (0, 0, 0))
        rows.append([kind, *(f"{a} to {b}" for a, b in zip(was, now, strict=True))])
    return _markdown(rows) if result.after else []


def fence_of(job: Job) -> int:
    """Of the attempt that was published, from its files' names; 0: it published none."""
    names = [re.search(r"_(\d+)\.png$", url) for url in job["result_urls"]]
    return max((int(name[1]) for name in names if name), default=0)


def _said(counted: Mapping[Any, int]) -> str:
    return ", ".join(f"{what}: {number}" for what, number in sorted(counted.items()))
