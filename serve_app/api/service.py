"""JobService: takes orders and shows jobs to their owners, from the local view where that is good enough.

Does not change a job itself: the registry does. Knows nothing of routes.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import uuid_utils
from fastapi import Response
from sse_starlette import EventSourceResponse

from serve_app.api.catalog import Catalog
from serve_app.api.listing import JobList, JobQuery
from serve_app.api.output import OutputFiles
from serve_app.api.problems import Refused
from serve_app.api.registry_client import RegistryClient
from serve_app.api.replies import EstimateReply, JobStatusResponse
from serve_app.api.schemas import GenerateRequest
from serve_app.api.streams.watching import Watching
from serve_app.api.submit import submit
from serve_app.api.view import TERMINAL, LocalView
from serve_app.catalog.resolve import Order
from serve_app.config import Settings
from serve_app.errors import Gone, InvalidParameter, NotFinal, NotFound
from serve_app.messages import JobFilter, JobView, Labels, Submission, Tombstone
from serve_app.params import GenerationParams, summary_of

POLL_S = (1, 15)  # shortest and longest Retry-After of a job that is not final
FIRST_JOBS = 500  # a stream of all jobs begins with so many that run, and so many that wait


@dataclass(frozen=True)
class JobService:
    settings: Settings
    registry: RegistryClient
    view: LocalView
    catalog: Catalog
    files: OutputFiles
    watching: Watching
    resolve: Callable[[Order], GenerationParams]
    revision_of: Callable[[str], str]

    # ---- ordering ----

    async def order(
        self,
        body: GenerateRequest,
        *,
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
    ) -> tuple[JobView, bool]:
        """The job, and whether it was there before. Raises Refused, InvalidField, Unavailable."""
        params, labels = self.resolve(body.order()), body.labels(client)
        return await self._submit(params, labels, owner, key, body.body_hash(), life_s)

    async def estimate(self, body: GenerateRequest, client: str) -> EstimateReply:
        params = self.resolve(body.order())
        reason = await self.registry.readiness()
        seconds = None if reason else await self.registry.estimate(params.work, client)
        return EstimateReply.of(params.model_dump(), seconds, reason)

    async def again(self, job_id: str, owner: str, key: str | None) -> tuple[JobView, bool]:
        """A new job like this one, which has ended; drawn with the weights of now."""
        job = await self.job(job_id, owner)
        if job["status"] not in TERMINAL:  # another ingress may have told of its end already
            job = _owned(await self.registry.get(job_id), owner)
        if job["status"] not in TERMINAL:
            raise NotFinal(f"The job is {job['status']}: cancel it first, or wait for it.")
        active = self.catalog.capabilities.model
        if job["params"]["model"] != active:
            raise InvalidParameter("model", "this job's model is not being served", [active])
        params = GenerationParams.model_validate(
            job["params"] | {"model_revision": self.revision_of(active)}
        )
        labels: Labels = {**job["labels"], "retry_of": job_id}
        said = hashlib.sha256(f"retry {job_id}".encode()).hexdigest()
        return await self._submit(params, labels, owner, key, said)

    async def _submit(
        self,
        params: GenerationParams,
        labels: Labels,
        owner: str,
        key: str | None,
        body_hash: str,
        life_s: float | None = None,
    ) -> tuple[JobView, bool]:
        order = Submission(
            job_id=str(uuid_utils.uuid7()),
            owner=owner,
            params=params.model_dump(),
            summary=summary_of(params),
            labels=labels,
            deadline=time.time() + self.settings.submit_timeout_s,
            idempotency_key=key,
            body_hash=body_hash,
            cancel_after_s=life_s,
        )
        reply = await submit(self.registry, order, self.settings.submit_timeout_s)
        if "job" not in reply:
            assert "error" in reply
            raise Refused(reply["error"], reply.get("retry_after"))
        return self.view.remember(reply["job"]), reply.get("replayed", False)

    # ---- looking ----

    async def job(self, job_id: str, owner: str) -> JobView:
        """At most a second old. Somebody else's job is not found, like one that never was."""
        job = self.view.get(_checked(job_id))
        if job is None or not self.view.good_enough(job):
            asked = await self.registry.get(job_id)
            job = asked if asked is None or "gone" in asked else self.view.remember(asked)
        return _owned(job, owner)

    async def page(self, query: JobQuery, owner: str) -> JobList:
        before, after = query.bounds(owner)
        page = await self.registry.page(owner, query.filter(), query.limit, before, after)
        return JobList(
            next=query.path(owner, "before", page["older"]),
            previous=query.path(owner, "after", page["newer"]),
            results=[JobStatusResponse.of(job) for job in page["jobs"]],
        )

    async def events(
        self, owner: str, since: tuple[int, int] | None, *, preview: bool
    ) -> EventSourceResponse:
        """All jobs of an owner: those that run, the newest of those that wait, and those that changed
        since the revision the reader saw last."""

        async def live() -> list[JobView]:
            found: list[JobView] = []
            for statuses in (["STARTED", "RETRY"], ["PENDING"]):
                wanted = JobFilter(statuses=statuses)
                page = await self.registry.page(owner, wanted, FIRST_JOBS, None, None)
                found += map(self.view.remember, page["jobs"])
            return found

        async def missed() -> list[JobView]:
            return [] if since is None else await self._changed(owner, since)

        return await self.watching.of_owner(owner, live, missed, preview=preview)

    async def _changed(self, owner: str, since: tuple[int, int]) -> list[JobView]:
        """Asked of the registry: the reader may have been with another ingress. It may know the
        revision but not all of what had it, so that counts as missed."""
        upto = self.view.cursor
        (epoch, seq), found = since, list[JobView]()
        seq = max(0, seq - 1)
        while True:
            reply = await self.registry.watch(epoch, seq, 0)
            if reply["resync"]:  # nobody can say any more: the newest ones
                page = await self.registry.page(owner, JobFilter(), FIRST_JOBS, None, None)
                return page["jobs"]
            found += [job for job in reply["jobs"] if job["owner"] == owner]
            seq = reply["seq"]
            if (epoch, seq) >= upto:
                return found

    # ---- ending ----

    async def cancel(self, job_id: str, owner: str) -> JobView:
        """Idempotent: a job that has ended stays as it is."""
        job = _owned(await self.registry.cancel(_checked(job_id), owner), owner)
        return self.view.remember(job)

    async def delete(self, job_id: str, owner: str) -> None:
        held = _owned(await self.registry.get(_checked(job_id)), owner)
        if held["status"] not in TERMINAL:
            await self.cancel(job_id, owner)  # whoever watches hears of it
        if await self.registry.delete(job_id, owner) is None:
            raise NotFound("There is no job of this id.")
        self.view.forget(job_id)

    # ---- replies ----

    def accepted(
        self, job: JobView, *, replayed: bool = False, waited: int | None = None
    ) -> Response:
        """202; or 200 when it was waited for and is final."""
        done = waited is not None and job["status"] in TERMINAL
        response = self._reply(job, 200 if done else 202)
        response.headers["Location"] = f"/v1/jobs/{job['job_id']}"
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return _waited(response, waited)

    def shown(
        self, job: JobView, if_none_match: str | None = None, waited: int | None = None
    ) -> Response:
        if if_none_match and _names(if_none_match, job["rev"]):
            return _waited(Response(status_code=304, headers=self._headers(job)), waited)
        return _waited(self._reply(job, 200), waited)

    def _reply(self, job: JobView, status: int) -> Response:
        body = JobStatusResponse.of(job, self.view.age_of(job)).model_dump_json()
        return Response(body, status, self._headers(job), "application/json")

    def _headers(self, job: JobView) -> dict[str, str]:
        headers = {"ETag": f'W/"{job["rev"]}"', "Cache-Control": "private, no-cache"}
        if job["status"] not in TERMINAL:
            shortest, longest = POLL_S
            eta = job["eta_seconds"] or 0
            headers["Retry-After"] = str(max(shortest, min(longest, round(eta / 4))))
        return headers


def _checked(job_id: str) -> str:
    try:
        if str(uuid.UUID(job_id)) == job_id:
            return job_id
    except ValueError:
        pass
    raise NotFound("A job id is a UUID in lower case.")


def _owned(found: JobView | Tombstone | None, owner: str) -> JobView:
    if found is None or found["owner"] != owner:
        raise NotFound("There is no job of this id.")
    if "gone" in found:
        why = "This job was deleted." if found["gone"] == "deleted" else "This job's time is over."
        raise Gone(why, code=found["gone"])
    return found


def _waited(response: Response, waited: int | None) -> Response:
    if waited is not None:
        response.headers["Preference-Applied"] = f"wait={waited}"
    return response


def _names(if_none_match: str, rev: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return f'"{rev}"' in tags or "*" in tags


def parse_rev(text: str | None) -> tuple[int, int] | None:
    """Of `Last-Event-ID`; None: none was given, or not one of ours."""
    epoch, _, number = (text or "").partition(".")
    if not (epoch.isdecimal() and number.isdecimal() and len(epoch + number) < 30):
        return None
    return int(epoch), int(number)
