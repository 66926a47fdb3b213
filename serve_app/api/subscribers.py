"""Subscribers: who is told of a change, found by the job that changed and by its owner.

Knows nothing of what they do with it. A change costs nothing for those whom it does not concern, however many
they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from serve_app.messages import BatchView, JobView

T = TypeVar("T")
Subscriber = Callable[[JobView | None], None]
"""Called with a job that changed; with None when changes may have been missed."""

BatchSubscriber = Callable[[BatchView], None]
"""Called with a batch that was just ordered, ordered again or cancelled."""


class Subscribers:
    def __init__(self) -> None:
        self._of_job: dict[str, set[Subscriber]] = {}
        self._of_owner: dict[str, set[Subscriber]] = {}
        self._of_batches: dict[str, set[BatchSubscriber]] = {}  # by owner

    def of_job(self, job_id: str, subscriber: Subscriber) -> Callable[[], None]:
        """Returns a function that ends the subscription."""
        return _enter(self._of_job, job_id, subscriber)

    def of_owner(self, owner: str, subscriber: Subscriber) -> Callable[[], None]:
        """Of all jobs of this owner. Returns a function that ends the subscription."""
        return _enter(self._of_owner, owner, subscriber)

    def of_batches(self, owner: str, subscriber: BatchSubscriber) -> Callable[[], None]:
        """Of all batches of this owner. Returns a function that ends the subscription."""
        return _enter(self._of_batches, owner, subscriber)

    def tell_batch(self, batch: BatchView) -> None:
        for subscriber in list(self._of_batches.get(batch["owner"], ())):
            subscriber(batch)

    def tell(self, job: JobView) -> None:
        for index, key in ((self._of_job, job["job_id"]), (self._of_owner, job["owner"])):
            for subscriber in list(index.get(key, ())):
                subscriber(job)

    def tell_all_that_changes_may_lack(self) -> None:
        for subscriber in self.all():
            subscriber(None)

    def all(self) -> list[Subscriber]:
        indexes = (self._of_job, self._of_owner)
        return [one for index in indexes for some in index.values() for one in some]

    def __len__(self) -> int:
        return len(self.all())


def _enter(index: dict[str, set[T]], key: str, subscriber: T) -> Callable[[], None]:
    index.setdefault(key, set()).add(subscriber)

    def leave() -> None:
        some = index.get(key)
        if some is not None:
            some.discard(subscriber)
            if not some:
                del index[key]

    return leave
