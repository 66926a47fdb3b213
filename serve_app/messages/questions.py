"""What an ingress asks the registry, apart from submitting a job, and the answers.

Shapes only.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from serve_app.messages.attempts import WeightFiles
from serve_app.messages.batches import BatchView
from serve_app.messages.jobs import JobView, Mark, Tombstone


class JobFilter(TypedDict, total=False):
    """Which jobs a list shows: those that match every key that is given. Times are unix seconds."""

    statuses: list[str]
    style_id: str
    model: str  # by name, as it was ordered
    tag: str
    batch_id: str
    words: list[str]  # letters and digits; the job has a word that begins with each of them
    starred: bool  # this and the next two: of one and the same of its images
    rejected: bool
    rating: int  # or better
    created_after: float
    created_before: float


class JobChanges(TypedDict, total=False):
    """What becomes different of a job; what is left out stays."""

    tags: list[str]  # instead of those that it has
    priority: str
    marks: dict[str, Mark]  # by index of the image, as text: of each what is said


class ChangeReply(TypedDict):
    """`job`: as it is now; None: the owner has none of that id. `begun`: its priority was to change, and it
    waits in line no longer, so nothing has changed."""

    job: JobView | Tombstone | None
    begun: bool


class JobPage(TypedDict):
    """Jobs, newest first. `older` and `newer`: job numbers where the next page and the one before begin;
    None: there is none."""

    jobs: list[JobView]
    older: int | None
    newer: int | None


class WatchReply(TypedDict):
    """What changed after the cursor (epoch, seq). `resync`: some changes are missing. Then the views are
    those of the jobs that run, and the reader must ask again for every other live job that it knows."""

    epoch: int
    seq: int
    resync: bool
    views: bytes  # of the changed jobs, as `encoding` reads them: made once for all who watch
    gone: list[str]  # jobs that were deleted
    batches: NotRequired[list[BatchView]]  # just ordered, ordered again or cancelled
    paused: str | None  # why nothing is launched now: application, renderer, storage, draining
    deployment: int  # grows whenever an ingress comes up
    now: float  # unix seconds, by the clock of the registry's host


class ChangesReply(TypedDict):
    """Jobs of one owner that changed after a cursor, oldest change first. `seq`: the cursor to go on from, if
    there are `more`. `resync`: some changes are missing, and no job is told."""

    seq: int
    resync: bool
    more: bool
    jobs: list[JobView]


class WebhookSettings(TypedDict):
    """How webhooks are sent."""

    file: str | None  # of owners and secrets, an absolute path; None: none are sent
    networks: list[str]  # that may be called though they are not public
    ca_file: (
        str | None
    )  # certificates that are believed beside those of the system, an absolute path


class DeployedPool(TypedDict):
    """Renderers that draw one model. Those that draw several are a pool of each: `catalog.pools`."""

    model: str
    model_revision: str
    gpus: float  # that one renderer needs
    max_in_flight: int  # attempts at once


class HeldModel(TypedDict):
    """A model of a renderer that has several."""

    revision: str
    on_device: bool  # else on its host
    why: str | None  # why it could not be loaded, fit to be shown to anyone


class PoolState(TypedDict):
    """How a pool is now."""

    pool: str
    model: str
    state: Literal["resident", "loading", "resting", "failed"]
    """resident: a device has the model. loading: the first renderer starts. resting: no device has it until
    somebody orders: it is on the host, or there is no renderer. failed: an order would wait for what `reason`
    says."""
    reason: str | None  # why an order would not be drawn now, fit to be shown to anyone


class Deployment(TypedDict):
    """What a newly deployed application wants of its registry. Either side may be of other code, so what the
    registry does not know it ignores, and what is missing stays as it is."""

    session: str  # of the Serve that runs it
    limits: dict[str, Any]  # fields of `jobs.limits.RegistryLimits`
    pools: dict[
        str, DeployedPool
    ]  # by name; an application of older code has one, and says so otherwise
    nodes_on_demand: bool  # a cluster that adds the nodes it lacks
    launchers: int  # processes that launch jobs for the registry
    cpus: float  # logical ones that all its replicas reserve, when they are as many as they may be
    output_dir: str  # its address: an absolute path
    weights: WeightFiles
    webhooks: WebhookSettings
