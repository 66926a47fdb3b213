"""Pools: those of the newest deployment: what each draws, how many attempts it takes at once, and what its
renderers have said of themselves.

Knows names and numbers; nothing of processes, lines or jobs. Before a deployment has told its pools, every
job stays in the pool that it was ordered for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from serve_app.jobs.lines import needs_renderer
from serve_app.jobs.renderers import Renderers
from serve_app.messages import DeployedPool, Summary
from serve_app.params import DEFAULT_POOL


class Pools:
    def __init__(self) -> None:
        self.renderers: defaultdict[str, Renderers] = defaultdict(Renderers)  # by pool
        self._deployed: dict[str, DeployedPool] = {}
        self._of_model: dict[str, str] = {}

    def deployed(self, pools: Mapping[str, DeployedPool]) -> None:
        """The newest deployment has these pools."""
        self._deployed = dict(pools)
        self._of_model = {pool["model"]: name for name, pool in pools.items()}
        for name, pool in pools.items():
            self.renderers[name].deployed(pool["model"], pool["model_revision"])
        for gone in self.renderers.keys() - pools.keys():
            del self.renderers[gone]

    def home(self, pool: str, model: str) -> str:
        """The pool whose renderers draw this model now. A job whose model no pool draws any more stays where
        it is, or goes to the first pool: renderers there say that its weights are not served."""
        if not self._deployed or not needs_renderer(pool):
            return pool
        at_home = self._of_model.get(model)
        if at_home is None:
            return pool if pool in self._deployed else next(iter(self._deployed))
        return at_home

    def routed(self, summary: Summary) -> Summary:
        """The summary of a new job, with the pool that draws its model."""
        home = self.home(summary["pool"], summary["model"])
        return summary if home == summary["pool"] else {**summary, "pool": home}

    def renderers_of(self, model: str | None) -> Renderers:
        """Of the pool that draws this model; None, or no such pool: of the first one."""
        return self.renderers[self.home(next(iter(self.names)), model or "")]

    def pool_of(self, model: str) -> str | None:
        """The pool that draws this model. None: no deployment has told of one."""
        return self._of_model.get(model)

    def slots(self, pool: str, otherwise: int) -> int:
        """Attempts at once in this pool; `otherwise`: while no deployment has told its pools."""
        if not self._deployed:
            return otherwise
        found = self._deployed.get(pool)
        return 0 if found is None else found["max_in_flight"]

    def serve(self, model: str, revision: str) -> bool:
        """Some pool serves these very weights."""
        return any(known.served == (model, revision) for known in self.renderers.values())

    @property
    def names(self) -> list[str]:
        """Of the pools that were deployed, or that are known otherwise."""
        return list(self._deployed) or list(self.renderers) or [DEFAULT_POOL]
