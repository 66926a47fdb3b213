"""RegistryLimits: what a deployment may change while jobs live.

Knows names and defaults. Each limit is used by the part of the registry that it limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class RegistryLimits:
    max_in_flight: int
    max_pending: int
    max_attempts: int
    cached_jobs: int
    cpu_slots: int = 2  # attempts at once at jobs that need no renderer
    idempotency_s: float
    retention_s: float | None = None  # None: finished jobs stay until a client deletes them
    client_weights: Mapping[str, float] = field(default_factory=dict[str, float])

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With other values, from newer or older code: what this code does not know is ignored, and what is
        not sent stays."""
        known = {field.name for field in fields(self)}
        return replace(self, **{k: v for k, v in changes.items() if k in known})
