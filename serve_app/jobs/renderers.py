"""Renderers: what the renderers of an application have said of themselves, and which weights it serves.

Knows names and sentences; nothing of processes or jobs.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from serve_app.messages import HeldModel

FORGOTTEN_AFTER_S = 15.0
"""A renderer of several models that has said nothing for so long is gone."""


class Holder(NamedTuple):
    """A renderer that has this model beside others."""

    told_at: float  # monotonic seconds
    on_device: bool


class Renderers:
    def __init__(self) -> None:
        self.served: tuple[str, str] | None = None  # model and revision of the newest deployment
        self.proven = False  # a renderer has loaded these weights
        self.load_error: str | None = None  # why the last one could not
        self._loading = False
        self._loaded: tuple[str, str] | None = None  # by the last one that was ready, or drew
        self._holders: dict[str, Holder] = {}  # by id of the renderer

    def deployed(self, model: str, revision: str) -> None:
        """The newest deployment serves these weights."""
        if self.served != (model, revision):
            self.served = (model, revision)
            # Its first renderer may have been faster than its first ingress.
            self.proven, self.load_error = self._loaded == self.served, None

    def starts_loading(self) -> None:
        """One has a process and a device, and loads its model."""
        self._loading = True

    def failed_to_load(self, why: str) -> None:
        self._loading, self.load_error = False, why

    def is_ready(self, model: str, revision: str) -> None:
        """One has loaded these weights."""
        self._loading, self._loaded = False, (model, revision)
        if self._loaded == self.served:
            self.proven, self.load_error = True, None

    def holds(self, renderer: str, model: str, held: HeldModel, now: float) -> None:
        """One that has several models says how this one is. `now`: monotonic. One that could not load it says
        nothing of the others that could."""
        self._holders = {
            name: holder
            for name, holder in self._holders.items()
            if name != renderer and now - holder.told_at < FORGOTTEN_AFTER_S
        }
        if held["why"] is None:
            self._holders[renderer] = Holder(now, held["on_device"])
            self.is_ready(model, held["revision"])
            self.load_error = (
                None  # an ingress that came up without the files may have deployed none
            )
        elif not self._holders:
            self.failed_to_load(held["why"])

    def held(self, now: float) -> Literal["device", "host"] | None:
        """Where the renderers that have several models have this one. None: none has said that it does."""
        places = {
            holder.on_device
            for holder in self._holders.values()
            if now - holder.told_at < FORGOTTEN_AFTER_S
        }
        return None if not places else "device" if True in places else "host"

    def draws(self, model: str, revision: str) -> None:
        """One has admitted an attempt at a job of these weights, so it has loaded them. A registry that was
        started again learns by this that there are renderers."""
        self.is_ready(model, revision)

    @property
    def waits_for(self) -> str:
        """What a launched job waits for until a renderer admits it."""
        if self.load_error is not None:
            return f"model: {self.load_error}"
        return "model" if self._loading else "replica"
