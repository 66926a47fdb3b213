"""JobService: submits orders, and finds, cancels and deletes jobs for their owners.

Answers from the local view where that is fresh enough, and asks the registry otherwise. Only the registry
changes a job. Knows nothing of routes, headers or status codes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import uuid_utils
from sse_starlette import EventSourceResponse

from serve_app.api.catalog import Catalog, ModelList
from serve_app.api.changes import ChangeRequest
from serve_app.api.grants import CURRENT
from serve_app.api.inspection import InspectReply
from serve_app.api.job_texts import JobTexts
from serve_app.api.listing import MAX_PAGE, JobList, JobQuery
from serve_app.api.output import FinishedFiles
from serve_app.api.problems import Refused
from serve_app.api.registry_client import RegistryClient
from serve_app.api.replies import EstimateReply, JobStatusResponse
from serve_app.api.schemas import DeriveRequest, GenerateRequest
from serve_app.api.sheets import SheetRequest, resolve_sheet
from serve_app.api.sources import picture_of, sources_again, sources_of
from serve_app.api.streams.watching import Watching
from serve_app.api.submit import submit
from serve_app.api.thumbnails import Thumbnails
from serve_app.api.uploads import SourcePictures
from serve_app.api.view import LocalView
from serve_app.api.webhooks import DeliveryList, DeliveryQuery, DeliveryReply, Hooks
from serve_app.artifacts.inspection.inspect import inspect
from serve_app.catalog.finishing import resolve_effects
from serve_app.catalog.resolve import Order, how_to_serve
from serve_app.config import Settings
from serve_app.errors import (
    Gone,
    InvalidField,
    InvalidParameter,
    NoImages,
    NotFinal,
    NotFound,
    NotWaiting,
    ServiceError,
    Unavailable,
)
from serve_app.finishing.base import Weights
from serve_app.finishing.palette_files import Palette
from serve_app.messages import (
    TERMINAL,
    BatchFilter,
    BatchView,
    ImageFile,
    JobFilter,
    JobView,
    Labels,
    Submission,
    SubmitReply,
    Summary,
    Tombstone,
)
from serve_app.params import (
    DeriveParams,
    Finishing,
    GenerationParams,
    Published,
    SourceUse,
    summary_of,
    summary_of_derive,
    summary_of_sheet,
)

FIRST_BATCHES = 20  # and with so many batches that live
FIRST_JOBS = 500  # a stream of all jobs begins with at most so many that run, and so many that wait


@dataclass(frozen=True)
class JobService:
    settings: Settings
    registry: RegistryClient
    view: LocalView
    texts: JobTexts
    catalog: Catalog
    files: FinishedFiles
    thumbnails: Thumbnails
    pictures: SourcePictures
    watching: Watching
    hooks: Hooks
    resolve: Callable[[Order], GenerationParams]
    palettes: Mapping[str, Palette]
    weights: Weights
    revision_of: Callable[[str], str]

    async def models(self, root: str = "") -> ModelList:
        """Every model, and how those are that are served. Without an answer of the registry nobody knows.
        `root`: prefix of every link."""
        try:
            pools = await self.registry.pools()
        except Unavailable:
            pools = []
        return self.catalog.models_now(pools, root)

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
        """The job, and whether `key` had made it before. `life_s`: seconds until it is revoked. Raises
        Refused, InvalidField, Unavailable."""
        body_hash = body.body_hash()
        making = self._order(body, owner, client, life_s, key, body_hash)
        return await self._or_known(making, owner, key, body_hash)

    async def _order(
        self,
        body: GenerateRequest,
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
        body_hash: str,
    ) -> tuple[JobView, bool]:
        sources = await self.sources(body, owner, keep=True)
        params, labels = self.resolve(body.order(sources)), body.labels(client)
        hook = self.hooks.of(owner, body.webhook, body.webhook_events_filter)
        if hook is not None:
            labels["webhook"] = hook
        return await self._submit(
            params.model_dump(), summary_of(params), labels, owner, key, body_hash, life_s
        )

    async def sources(
        self, body: GenerateRequest, owner: str, *, keep: bool
    ) -> dict[str, SourceUse]:
        """What the pictures are that an order names. `keep`: for an order that is made. Raises
        InvalidField."""
        if not (named := body.pictures()):
            return {}
        return await sources_of(
            named, owner, self.pictures, lambda job_id: self.newest(job_id, owner), keep=keep
        )

    async def estimate(self, body: GenerateRequest, owner: str, client: str) -> EstimateReply:
        sources = await self.sources(body, owner, keep=False)
        params = self.resolve(body.order(sources))
        self.hooks.of(owner, body.webhook, body.webhook_events_filter)
        reason = await self.registry.readiness(params.model)
        seconds = None
        if reason is None:
            seconds = await self.registry.estimate(params.work, client, params.model)
        return EstimateReply.of(params, seconds, reason)

    async def derive(
        self,
        job_id: str,
        body: DeriveRequest,
        *,
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
    ) -> tuple[JobView, bool]:
        """A new job that finishes pictures of this one, which must have succeeded. Raises NotFinal, NoImages,
        InvalidField, Refused."""
        wanted = {"job_id": job_id, **body.model_dump(mode="json", exclude_none=True)}
        body_hash = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        making = self._derive(job_id, body, wanted, owner, client, life_s, key, body_hash)
        return await self._or_known(making, owner, key, body_hash)

    async def _derive(
        self,
        job_id: str,
        body: DeriveRequest,
        wanted: dict[str, Any],
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
        body_hash: str,
    ) -> tuple[JobView, bool]:
        job = await self._final(job_id, owner)
        if not job["images"]:
            raise NoImages(f"The job is {job['status']}.")
        params = DeriveParams(
            request=wanted,
            sources=tuple(
                picture_of(job, index, "indices") for index in _chosen(job, body.indices)
            ),
            effects=resolve_effects(body.effects, self.palettes, weights=self.weights),
            format=body.format,
            style_id=job["summary"]["style_id"],
        )
        labels: Labels = {
            **job["labels"],
            "client": client,
            "retry_of": None,
            "derived_from": job_id,
            "batch_id": None,
        }
        labels.pop("reproduces", None)
        labels.pop("marks", None)
        if body.tags is not None:
            labels["tags"] = list(dict.fromkeys(body.tags))
        return await self._submit(
            params.model_dump(), summary_of_derive(params), labels, owner, key, body_hash, life_s
        )

    async def _final(self, job_id: str, owner: str) -> JobView:
        """The job, which has ended. Raises NotFinal."""
        job = await self.newest(job_id, owner)
        if job["status"] not in TERMINAL:
            raise NotFinal(f"The job is {job['status']}: cancel it first, or wait for it.")
        return job

    async def again(
        self, job_id: str, *, owner: str, life_s: float | None, key: str | None
    ) -> tuple[JobView, bool]:
        """A new job with the order of this one, which must have ended; drawn with the current weights."""
        body_hash = hashlib.sha256(f"retry {job_id}".encode()).hexdigest()
        making = self._again(job_id, owner, life_s, key, body_hash)
        return await self._or_known(making, owner, key, body_hash)

    async def _again(
        self, job_id: str, owner: str, life_s: float | None, key: str | None, body_hash: str
    ) -> tuple[JobView, bool]:
        job = await self._final(job_id, owner)
        labels: Labels = {**job["labels"], "retry_of": job_id, "batch_id": None}
        labels.pop("marks", None)
        return await self._order_again(job, job["params"], labels, owner, key, body_hash, life_s)

    async def reproduce(
        self, job_id: str, *, owner: str, client: str, life_s: float | None, key: str | None
    ) -> tuple[JobView, bool]:
        """A new job that makes the images of this one again, with the current weights, and compares them. It
        carries no tags, so nobody who collects by tag meets a picture twice. Raises NotFinal, NoImages,
        InvalidParameter, Refused."""
        body_hash = hashlib.sha256(f"reproduce {job_id}".encode()).hexdigest()
        making = self._reproduce(job_id, owner, client, life_s, key, body_hash)
        return await self._or_known(making, owner, key, body_hash)

    async def _reproduce(
        self,
        job_id: str,
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
        body_hash: str,
    ) -> tuple[JobView, bool]:
        job = await self._final(job_id, owner)
        if not job["images"]:
            raise NoImages(f"The job is {job['status']}.")
        images = [_published(job, image).model_dump() for image in job["images"]]
        params = job["params"] | {"reproduces": images}
        if job["summary"]["kind"] == "generate":
            finishing = job["params"].get("finishing") or Finishing().model_dump(mode="json")
            params = job["params"] | {"finishing": {**finishing, "reproduces": images}}
        labels = Labels(
            client=client,
            priority=job["labels"]["priority"],
            tags=[],
            metadata={},
            retry_of=None,
            reproduces=job_id,
        )
        return await self._order_again(job, params, labels, owner, key, body_hash, life_s)

    async def _order_again(
        self,
        job: JobView,
        params: dict[str, Any],
        labels: Labels,
        owner: str,
        key: str | None,
        body_hash: str,
        life_s: float | None,
    ) -> tuple[JobView, bool]:
        """`params`: those of `job`, perhaps with more to do once it is drawn. Raises InvalidParameter: its
        model is not served."""
        if job["summary"]["kind"] != "generate":
            return await self._submit(params, job["summary"], labels, owner, key, body_hash, life_s)
        model, served = params["model"], self.catalog.served
        if model not in served:
            why = f"this job's model is not being served. {how_to_serve(model)}"
            raise InvalidParameter("model", why, list(served))
        params = params | {"model_revision": self.revision_of(model)}
        params |= await sources_again(params, self.pictures)
        # Not validated: newer code may have accepted this order, and it goes back as it came.
        summary = summary_of(GenerationParams.model_construct(None, **params))
        return await self._submit(params, summary, labels, owner, key, body_hash, life_s)

    async def sheet(
        self,
        body: SheetRequest,
        *,
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
    ) -> tuple[JobView, bool]:
        """A job that packs pictures of finished jobs. Raises Refused, InvalidField, Unavailable."""
        making = self._sheet(body, owner, client, life_s, key)
        return await self._or_known(making, owner, key, body.body_hash())

    async def _sheet(
        self, body: SheetRequest, owner: str, client: str, life_s: float | None, key: str | None
    ) -> tuple[JobView, bool]:
        params = await resolve_sheet(
            body,
            lambda job_id: self.newest(job_id, owner),
            lambda wanted, most: self._succeeded(owner, wanted, most),
        )
        summary, labels = summary_of_sheet(params), body.labels(client)
        if (hook := self.hooks.of(owner, None, None)) is not None:
            labels["webhook"] = hook
        dumped = params.model_dump(mode="json")
        return await self._submit(dumped, summary, labels, owner, key, body.body_hash(), life_s)

    async def _succeeded(self, owner: str, wanted: JobFilter, most: int) -> list[JobView]:
        """The newest `most` jobs that are wanted and have succeeded, the oldest of them first."""
        found: list[JobView] = []
        wanted = {**wanted, "statuses": ["SUCCESS"]}
        before = None
        while len(found) < most:
            page = await self.registry.page(owner, wanted, MAX_PAGE, before, None)
            found += page["jobs"]
            if (before := page["older"]) is None:
                break
        return found[:most][::-1]

    async def _submit(
        self,
        params: dict[str, Any],
        summary: Summary,
        labels: Labels,
        owner: str,
        key: str | None,
        body_hash: str,
        life_s: float | None = None,
    ) -> tuple[JobView, bool]:
        submission = Submission(
            job_id=str(uuid_utils.uuid7()),
            owner=owner,
            params=params,
            summary=summary,
            labels=labels,
            deadline=time.time() + self.settings.submit_timeout_s,
            idempotency_key=key,
            body_hash=body_hash,
            cancel_after_s=life_s,
            quota=CURRENT.get().quota,
        )
        return self._taken(await submit(self.registry, submission, self.settings.submit_timeout_s))

    async def _or_known(
        self, making: Awaitable[tuple[JobView, bool]], owner: str, key: str | None, body_hash: str
    ) -> tuple[JobView, bool]:
        """What is made. If it cannot be made any more, since a style, a job or a file that it names is gone:
        the job that `key` made while it was there."""
        try:
            return await making
        except (Refused, Unavailable):
            raise
        except ServiceError:
            if key is None or (reply := await self.registry.known(owner, key, body_hash)) is None:
                raise
            return self._taken(reply)

    def _taken(self, reply: SubmitReply) -> tuple[JobView, bool]:
        if "job" not in reply:
            assert "error" in reply
            raise Refused(reply["error"], reply.get("retry_after"))
        return self.view.remember(reply["job"]), reply.get("replayed", False)

    # ---- looking ----

    async def job(self, job_id: str, owner: str) -> JobView:
        """The job, at most a second old. Raises NotFound, also for the job of another owner; Gone."""
        job = self.view.get(_checked(job_id))
        if job is None or not self.view.good_enough(job):
            asked = await self.registry.get(job_id)
            job = asked if asked is None or "gone" in asked else self.view.remember(asked)
        return _owned(job, owner)

    async def newest(self, job_id: str, owner: str) -> JobView:
        """As `job`, but one that has ended is never shown as one that runs."""
        job = await self.job(job_id, owner)
        if job["status"] not in TERMINAL:
            job = self.view.remember(_owned(await self.registry.get(job_id), owner))
        return job

    async def page(self, query: JobQuery, owner: str, root: str) -> JobList:
        """`root`: prefix of every link."""
        before, after = query.bounds(owner)
        page = await self.registry.page(owner, query.filter(), query.limit, before, after)
        return JobList(
            next=query.path(owner, "before", page["older"], root),
            previous=query.path(owner, "after", page["newer"], root),
            results=[JobStatusResponse.of(job, root=root) for job in page["jobs"]],
        )

    def events(
        self,
        owner: str,
        client: str,
        since: tuple[int, int] | None,
        root: str,
        *,
        preview: bool,
    ) -> EventSourceResponse:
        """A stream of all jobs of an owner. It begins with the batches that live, the jobs that run, the
        newest of those that wait, and those that changed after `since`, the last revision that the reader
        saw. `client`: whose seat it takes."""

        async def live() -> list[JobView]:
            found: list[JobView] = []
            for statuses in (["STARTED", "RETRY"], ["PENDING"]):
                wanted = JobFilter(statuses=statuses)
                page = await self.registry.page(owner, wanted, FIRST_JOBS, None, None)
                found += map(self.view.remember, page["jobs"])
            return found

        async def missed() -> list[JobView]:
            return [] if since is None else await self._changed(owner, since)

        async def batches() -> list[BatchView]:
            wanted = BatchFilter(statuses=["PENDING", "STARTED"])
            page = await self.registry.batches(owner, wanted, FIRST_BATCHES, None, None)
            return page["batches"][::-1]

        return self.watching.of_owner(owner, client, live, batches, missed, root, preview=preview)

    async def _changed(self, owner: str, since: tuple[int, int]) -> list[JobView]:
        """Jobs that changed at `since` or later. The registry is asked, because the reader may have been
        connected to another ingress."""
        (epoch, seq), found = since, list[JobView]()
        # One revision may make several events, and the reader may lack the last of them.
        seq = max(0, seq - 1)
        while True:
            reply = await self.registry.changes(owner, epoch, seq)
            if reply["resync"]:  # the registry does not remember so far back: send the newest jobs
                page = await self.registry.page(owner, JobFilter(), FIRST_JOBS, None, None)
                return page["jobs"]
            found += reply["jobs"]
            seq = reply["seq"]
            if not reply["more"]:
                return found

    async def inspect(self, data: bytes, owner: str) -> InspectReply:
        """What made the file `data`. Raises InvalidField: it is no picture."""
        async with self.pictures.decoding:
            found = await asyncio.to_thread(inspect, data, self.settings.max_pixels)
        return InspectReply.of(found, self.resolve)

    # ---- webhooks ----

    async def deliveries(self, query: DeliveryQuery, owner: str, root: str) -> DeliveryList:
        page = await self.registry.deliveries(owner, query.filter(), query.limit, query.before)
        return DeliveryList.of(page, query, root)

    async def redeliver(self, delivery_id: str, owner: str, root: str) -> DeliveryReply:
        """Raises NotFound, also for a delivery of another owner."""
        found = await self.registry.redeliver(delivery_id, owner)
        if found is None:
            raise NotFound("There is no delivery of this id.")
        return DeliveryReply.of(found, root)

    async def test_webhook(self, url: str | None, owner: str, root: str) -> DeliveryReply:
        """Raises InvalidField if that URL cannot be called for this owner, or there is none."""
        url = url or self.hooks.url_of(owner)
        if url is None:
            raise InvalidField("url", "you have no webhook for all your jobs: name one")
        self.hooks.check(owner, url, "url")
        return DeliveryReply.of(await self.registry.test_webhook(owner, url), root)

    # ---- ending ----

    async def cancel(self, job_id: str, owner: str) -> JobView:
        """Returns the job; one that had ended stays as it was."""
        job = _owned(await self.registry.cancel(_checked(job_id), owner), owner)
        return self.view.remember(job)

    async def change(self, job_id: str, body: ChangeRequest, owner: str) -> JobView:
        """The job with other tags, marks or priority. Raises InvalidField, NotWaiting."""
        changes = body.changes(await self.newest(job_id, owner))
        reply = await self.registry.change(job_id, owner, changes)
        job = self.view.remember(_owned(reply["job"], owner))
        if reply["begun"]:
            raise NotWaiting(f"The job is {job['status']}: its turn has come.")
        return job

    async def delete(self, job_id: str, owner: str) -> None:
        held = _owned(await self.registry.get(_checked(job_id)), owner)
        if held["status"] not in TERMINAL:
            await self.cancel(job_id, owner)  # so that open streams end with its REVOKED
        if await self.registry.delete(job_id, owner) is None:
            raise NotFound("There is no job of this id.")
        self.view.forget(job_id)


def _chosen(job: JobView, indices: list[int] | None) -> list[int]:
    there = sorted(image["index"] for image in job["images"])
    if indices is None:
        return there
    for i, index in enumerate(indices):
        if index not in there:
            raise InvalidField(f"indices.{i}", f"the job has no image {index}", there)
        if index in indices[:i]:
            raise InvalidField(f"indices.{i}", f"image {index} is named twice", there)
    return indices


def _published(job: JobView, image: ImageFile) -> Published:
    """What an image of this job is compared with when it is made again."""
    drawn = {file["role"]: file for file in image.get("files", [])}.get("original")
    return Published(
        job_id=job["job_id"],
        index=image["index"],
        path=image["path"],
        sha256=image["sha256"],
        pixels_sha256=image.get("pixels_sha256", ""),
        original=drawn["path"] if drawn else "",
        original_sha256=drawn["sha256"] if drawn else "",
        original_pixels_sha256=drawn.get("pixels_sha256", "") if drawn else "",
    )


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
