"""Renderers: what the renderers of an application have said of themselves, and which weights it serves.

Knows names and sentences; nothing of processes or jobs.
"""

from __future__ import annotations


class Renderers:
    def __init__(self) -> None:
        self.served: tuple[str, str] | None = None  # model and revision of the newest deployment
        self.proven = False  # a renderer has loaded these weights
        self.load_error: str | None = None  # why the last one could not
        self._loading = False
        self._loaded: tuple[str, str] | None = None  # by the last one that was ready, or drew

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
