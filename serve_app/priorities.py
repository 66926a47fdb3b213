"""What a priority means: in the line of one client, and inside an engine.

Knows names and numbers only; `jobs/line.py` and `engine/drawings.py` apply them.
"""

from __future__ import annotations

HEAD_START_S = {"high": -600.0, "normal": 0.0, "low": 600.0}
"""In the line, a job counts as ordered so many seconds later than it was, among its client's jobs."""

PATIENCE = 15.0
"""An engine wants a request done after this many times its predicted solo time, and runs first what is due
first. Smaller values put late long requests before short ones, so that under overload everybody is late:
`tests/engine/simulation.py` shows it."""

PATIENCE_OF = {"high": PATIENCE / 3, "normal": PATIENCE, "low": PATIENCE * 3}
