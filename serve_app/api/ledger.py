"""The ledger of an owner's jobs, as CSV that is made while it is sent.

Knows pages of jobs, and of which jobs others were made; what is in a row, `delivery/ledger.py` says.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.listing import MAX_PAGE, JobQuery, Moment
from serve_app.api.replies import JOB_ID, JobStatusResponse
from serve_app.api.service import JobService
from serve_app.api.shapes import Tag
from serve_app.delivery.ledger import Raw, as_table, entries_of, parents_of
from serve_app.errors import Gone, NotFound
from serve_app.messages import JobView


class LedgerQuery(BaseModel):
    """Whose files are listed; all that are left out are."""

    model_config = ConfigDict(extra="forbid")

    tag: Annotated[
        Tag | None, Field(description="Of jobs with this tag.", examples=["level-3"])
    ] = None
    batch_id: str | None = Field(
        default=None, max_length=100, description="Of jobs of this batch.", examples=[JOB_ID]
    )
    created_after: Moment | None = Field(
        default=None,
        description="Ordered at this moment or later.",
        examples=["2026-11-22T16:00:00Z"],
    )
    created_before: Moment | None = Field(
        default=None, description="Ordered before.", examples=["2026-11-23T00:00:00Z"]
    )

    def jobs(self) -> JobQuery:
        return JobQuery(**self.model_dump(), status=["SUCCESS"], limit=MAX_PAGE)


async def ledger(query: LedgerQuery, service: JobService, owner: str) -> AsyncGenerator[str]:
    """CSV, newest job first; a piece for each page of jobs."""
    wanted, before, head = query.jobs().filter(), None, True
    known: dict[str, Raw | None] = {}
    while True:
        page = await service.registry.page(owner, wanted, MAX_PAGE, before, None)
        raws = [raw_of(job) for job in page["jobs"]]
        known |= {raw["job_id"]: raw for raw in raws}
        entries = [
            entry
            for raw in raws
            for entry in entries_of(raw, [one async for one in made_of(raw, known, service, owner)])
        ]
        yield as_table(entries, head=head)
        head, before = False, page["older"]
        if before is None:
            return


async def made_of(
    raw: Raw, known: dict[str, Raw | None], service: JobService, owner: str
) -> AsyncGenerator[Raw]:
    """The job, and all that it was made of and that are still there. `known`: jobs that were asked for."""
    waiting, seen = [raw], {raw["job_id"]}
    while waiting:
        yield (one := waiting.pop(0))
        for parent in parents_of(one):
            if parent not in known:
                try:
                    known[parent] = raw_of(await service.job(parent, owner))
                except (NotFound, Gone):
                    known[parent] = None
            found = known[parent]
            if found is not None and parent not in seen:
                seen.add(parent)
                waiting.append(found)


def raw_of(job: JobView) -> dict[str, Any]:
    return JobStatusResponse.of(job).model_dump(mode="json")
