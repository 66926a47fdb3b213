"""Lease: who may write to a store in Redis, for how long, and how everybody else is kept from it.

Whoever takes the lease gets a higher `term`, and every script that writes compares it: one that slept
through its lease can change nothing. The time of a lease only says from when on it may be taken.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from serve_app.errors import StoreHeld
from serve_app.jobs.store.redis_link import FORMAT, RedisLink
from serve_app.jobs.store.redis_scripts import RELEASE, RENEW, TAKE

LEASE_S = 10.0
"""So long after its last sign of life a writer may be replaced. One that is known to be dead: at once."""


class Lease:
    """Ours from now on. `nonce` of the newest commit there, `size` of the store in pages, and of a page in
    bytes: as they were when it was taken."""

    def __init__(
        self, link: RedisLink, *, lease_s: float = LEASE_S, timeout_s: float = 0.0
    ) -> None:
        """Raises StoreHeld, naming the holder, if another process has it after `timeout_s`; StoreAway."""
        self.term = 0
        self._me, self._ms = _holder(), round(lease_s * 1000)
        give_up, dead = time.monotonic() + timeout_s, ""
        while not self.term:
            answer = link.run(TAKE, self._me, self._ms, dead, FORMAT)
            if answer[0] == b"taken":
                self.term = int(answer[1])
                self.nonce = answer[2].decode()
                self.size, self.page_size = int(answer[3]), int(answer[4])
                return
            holder = answer[1].decode()
            if _is_dead(holder) and dead != holder:
                dead = holder
            elif time.monotonic() > give_up:
                raise StoreHeld(
                    f"the job store {link.prefix!r} at {link.name} is held by {words_of(holder)}; its"
                    f" lease ends in {answer[2] / 1000:.0f} s unless it is renewed"
                )
            else:
                time.sleep(0.05)

    @property
    def renew_after_s(self) -> float:
        return self._ms / 3000

    def renew(self, link: RedisLink) -> list[Any]:
        """What `RENEW` says. Raises StoreAway."""
        return link.run(RENEW, self._me, self._ms, self.term)

    def release(self, link: RedisLink) -> None:
        """Raises StoreAway."""
        link.run(RELEASE, self._me, self.term)


def _holder() -> str:
    """Who this is, so that everybody can read it and this machine can tell whether it still lives."""
    return json.dumps(
        {
            "who": f"process {os.getpid()} on {os.uname().nodename}",
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "token": uuid4().hex,
        }
    )


def words_of(holder: str) -> str:
    return _read(holder).get("who", "an unknown process") if holder else "one that has ended since"


def _read(holder: str) -> dict[str, Any]:
    """What it says of itself; nothing, if it is not ours."""
    try:
        found = json.loads(holder)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def lives_here(holder: str) -> bool:
    """It is a process of this machine, and it lives."""
    known = _read(holder)
    return known.get("machine") == _machine() and _started(known["pid"]) == known["started"]


def _is_dead(holder: str) -> bool:
    """True: certainly. Of a process of another machine nobody knows."""
    return _read(holder).get("machine") == _machine() and not lives_here(holder)


def _machine() -> str:
    """This kernel since its boot, and this space of process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str:
    """When the process began, in ticks; empty: there is none (proc_pid_stat(5), fields 3 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
