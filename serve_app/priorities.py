"""What a priority means: in the line of one client, and inside an engine.

Knows names and numbers only; `jobs/line.py` and `engine/drawings.py` apply them.
"""

from __future__ import annotations

HEAD_START_S = {"high": -600.0, "normal": 0.0, "low": 600.0}
"""Among the jobs of its client, a job is placed in the line as if it had been ordered so many seconds
later."""

PATIENCE = 15.0
"""A request is due after this many times its predicted solo time, and an engine runs first what is due
first. With smaller values, late long requests run before short ones, and under overload all are late:
`tests/engine/simulation.py` shows it."""

PATIENCE_OF = {"high": PATIENCE / 3, "normal": PATIENCE, "low": PATIENCE * 3}
