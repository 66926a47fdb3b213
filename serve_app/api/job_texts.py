"""JobTexts: the JSON of a job as bytes, kept for as long as the job stays as it is.

Knows what of a body changes without a change of the job: its ETA, and the prefix of its links.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from serve_app.api.replies import JobStatusResponse, remaining
from serve_app.api.view import LocalView
from serve_app.messages import JobView

MOST_KEPT = 4096
LARGEST_KEPT = 16 * 1024  # bytes; 64 MiB in all, at worst


class Kept(NamedTuple):
    job: JobView
    eta_seconds: float | None
    text: bytes


class JobTexts:
    """A text is used again for the very same JobView, which nobody changes once the view has it, and the same
    ETA: nothing else goes into a body."""

    def __init__(self, view: LocalView) -> None:
        self._view = view
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def of(self, job: JobView, root: str) -> bytes:
        """The body of every answer that shows this job. `root`: prefix of every link."""
        age_s = self._view.age_of(job)
        eta = remaining(job["eta_seconds"], age_s)
        key = job["job_id"], root
        kept = self._kept.get(key)
        if kept is not None and kept.job is job and kept.eta_seconds == eta:
            return kept.text
        text = JobStatusResponse.of(job, age_s, root).model_dump_json().encode()
        if len(text) <= LARGEST_KEPT:
            self._kept[key] = Kept(job, eta, text)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return text

    def __len__(self) -> int:
        return len(self._kept)
