"""The kinds of jobs that need no renderer, and what the Ray task of each does.

A kind is registered here and nowhere else; what its params hold, its body alone knows.
"""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.tasks.derive import derive
from serve_app.tasks.sheet import sheet
from serve_app.tasks.work import Body

BODIES: Mapping[str, Body] = {"derive": derive, "sheet": sheet}
"""`Summary.kind` -> its body. Such a job's `Summary.pool` is `params.CPU_POOL`."""
