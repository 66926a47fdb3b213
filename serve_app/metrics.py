"""Names of the metrics, and the calls that feed them. Ray exports them as `ray_assets_...`.

Knows nothing of what is measured. No job id and no prompt is ever a tag; names of clients are, up to
MAX_CLIENTS of them.
"""

from __future__ import annotations

from typing import Protocol

SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800]

MAX_CLIENTS = 100
"""Later ones are counted as `others`: clients choose their names, and each name costs a time series."""


class JobMetrics(Protocol):
    """What the registry reports."""

    def submitted(self, jobs: int = 1) -> None: ...
    def finished(self, state: str, model: str) -> None: ...
    def retried(self, reason: str) -> None: ...
    def times(self, *, queue_s: float, run_s: float) -> None: ...
    def depth(self, waiting: int, in_flight: int) -> None: ...
    def share(self, client: str, seconds: float) -> None: ...
    def eta_error(self, seconds: float) -> None: ...
    def webhook(self, outcome: str, calls: int) -> None: ...
    def outbox(self, waiting: int, oldest_s: float) -> None: ...


class VitalMetrics(Protocol):
    """What `cluster/vitals.py` reports."""

    def lag(self, seconds: float) -> None: ...
    def commit(self, seconds: float, sent_bytes: int) -> None: ...
    def paused(self, reason: str | None) -> None: ...
    def oldest_waiting(self, seconds: float) -> None: ...
    def free(self, disk: str, size_bytes: int) -> None: ...


class RayJobMetrics:
    """In the registry actor. Make it once per process: Ray registers each metric under its name."""

    def __init__(self, application: str) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        tags = {"application": application}
        keys = ("application",)
        self._submitted = Counter("assets_jobs_submitted", "Jobs accepted.", keys)
        self._finished = Counter(
            "assets_jobs_finished", "Jobs ended, by state.", (*keys, "state", "model")
        )
        self._retried = Counter(
            "assets_job_retries", "Attempts lost, by reason.", (*keys, "reason")
        )
        self._queue = Histogram("assets_job_queue_seconds", "Submit to start.", SECONDS, keys)
        self._run = Histogram("assets_job_run_seconds", "Start to end.", SECONDS, keys)
        self._waiting = Gauge("assets_queue_depth", "Jobs that wait.", keys)
        self._in_flight = Gauge("assets_jobs_in_flight", "Job tasks at work.", keys)
        self._share = Counter(
            "assets_client_device_seconds", "Device time each client got.", (*keys, "client")
        )
        self._eta_error = Histogram(
            "assets_eta_error_seconds", "First ETA against what came.", SECONDS, keys
        )
        self._webhooks = Counter(
            "assets_webhook_deliveries",
            "Calls of webhooks, by outcome: delivered, failed (it comes again), given_up.",
            (*keys, "outcome"),
        )
        self._outbox = Gauge("assets_webhook_outbox", "Events that wait to be delivered.", keys)
        self._oldest = Gauge(
            "assets_webhook_outbox_age_seconds", "How long the oldest of them has waited.", keys
        )
        self._clients: set[str] = set()
        for metric in (
            self._submitted, self._finished, self._retried, self._queue, self._run, self._waiting,
            self._in_flight, self._share, self._eta_error, self._webhooks, self._outbox, self._oldest,
        ):  # fmt: skip
            metric.set_default_tags(tags)

    def submitted(self, jobs: int = 1) -> None:
        self._submitted.inc(jobs)

    def finished(self, state: str, model: str) -> None:
        self._finished.inc(tags={"state": state, "model": model})

    def retried(self, reason: str) -> None:
        self._retried.inc(tags={"reason": reason})

    def times(self, *, queue_s: float, run_s: float) -> None:
        self._queue.observe(max(0.0, queue_s))
        self._run.observe(max(0.0, run_s))

    def depth(self, waiting: int, in_flight: int) -> None:
        self._waiting.set(waiting)
        self._in_flight.set(in_flight)

    def share(self, client: str, seconds: float) -> None:
        if len(self._clients) < MAX_CLIENTS:
            self._clients.add(client)
        known = client if client in self._clients else "others"
        self._share.inc(max(1e-9, seconds), tags={"client": known})

    def eta_error(self, seconds: float) -> None:
        self._eta_error.observe(seconds)

    def webhook(self, outcome: str, calls: int) -> None:
        self._webhooks.inc(calls, tags={"outcome": outcome})

    def outbox(self, waiting: int, oldest_s: float) -> None:
        self._outbox.set(waiting)
        self._oldest.set(max(0.0, oldest_s))


class RayVitalMetrics:
    """In the registry actor, beside `RayJobMetrics`."""

    def __init__(self, application: str) -> None:
        from ray.util.metrics import Gauge

        keys = ("application",)
        self._lag = Gauge(
            "assets_registry_lag_seconds", "How late its event loop is at most.", keys
        )
        self._commit = Gauge("assets_store_commit_seconds", "The slowest commit of late.", keys)
        self._sent = Gauge(
            "assets_store_sent_bytes", "Pages that went to Redis of late; 0 with SQLite.", keys
        )
        self._paused = Gauge(
            "assets_launches_paused", "1 for the reason why no job is launched.", (*keys, "reason")
        )
        self._oldest = Gauge(
            "assets_oldest_waiting_seconds", "Age of the job that waits longest.", keys
        )
        self._free = Gauge("assets_disk_free_bytes", "Room on a disk.", (*keys, "disk"))
        for metric in (
            self._lag, self._commit, self._sent, self._paused, self._oldest, self._free,
        ):  # fmt: skip
            metric.set_default_tags({"application": application})
        self._reasons: set[str] = set()

    def lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def commit(self, seconds: float, sent_bytes: int) -> None:
        self._commit.set(seconds)
        self._sent.set(sent_bytes)

    def paused(self, reason: str | None) -> None:
        if reason is not None:
            self._reasons.add(reason)
        for known in self._reasons:
            self._paused.set(known == reason, tags={"reason": known})

    def oldest_waiting(self, seconds: float) -> None:
        self._oldest.set(seconds)

    def free(self, disk: str, size_bytes: int) -> None:
        self._free.set(size_bytes, tags={"disk": disk})


class RayRenderMetrics:
    """In a renderer replica: seconds and steps come from the engine's own events."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

        keys = ("model",)
        self._seconds = Histogram(
            "assets_render_seconds", "Admission to finished image.", SECONDS, keys
        )
        self._steps = Counter("assets_denoising_steps", "Denoising evaluations.", keys)
        self._live = Gauge("assets_engine_live_requests", "Images the engine holds.", keys)
        self._resident = Gauge(
            "assets_model_resident", "1 while its weights are on the device.", keys
        )
        self._switches = Histogram(
            "assets_model_switch_seconds", "To bring its weights to the device.", SECONDS, keys
        )

    def image(self, model: str, seconds: float, steps: int) -> None:
        self._seconds.observe(seconds, tags={"model": model})
        self._steps.inc(steps, tags={"model": model})

    def live(self, model: str, count: int) -> None:
        self._live.set(count, tags={"model": model})

    def resident(self, model: str, on_device: bool) -> None:
        self._resident.set(on_device, tags={"model": model})

    def switched(self, model: str, seconds: float) -> None:
        self._switches.observe(seconds, tags={"model": model})
