"""hook_events: what a webhook may be called for.

Names only; `jobs/store/outbox.py` knows when each event happens.
"""

from __future__ import annotations

EVENTS = ("queued", "started", "output", "completed")
"""In the order in which they happen: accepted; first begun; its files are published; ended, however that
may be."""
BATCH_HOOK_EVENTS = ("queued", "started", "completed")
"""Of a batch: accepted; the first of its jobs has begun, also of those that it reuses; all have ended."""
DEFAULT_EVENTS = ("completed",)
TEST = "test"
"""Of a call that somebody asked for."""
