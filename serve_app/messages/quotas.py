"""What an owner may have and use, and what they have and use. Shapes only."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Allowance(TypedDict):
    """Bounds on what is an owner's. What is left out has none; zero allows nothing."""

    waiting_jobs: NotRequired[int]  # in line, of all their clients
    device_seconds: NotRequired[int]  # of one day, UTC
    kept_bytes: NotRequired[int]  # published files


class Usage(TypedDict):
    """What is an owner's now."""

    waiting_jobs: int
    device_seconds: float  # today, UTC
    kept_bytes: int
    day_ends_at: float  # unix seconds: device seconds count from 0 then
