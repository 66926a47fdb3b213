"""doctor_redis: what an operator could have wrong with the Redis of the job store. Changes nothing."""

from __future__ import annotations

import sqlite3

from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.jobs.store.redis_lease import words_of
from serve_app.jobs.store.redis_link import RedisLink
from serve_app.tools.findings import Finding

MIB = 2**20
FULL = 0.8  # of `maxmemory`


def of_redis(url: str, settings: Settings) -> tuple[list[Finding], bool]:
    """What is found, and whether a registry holds the store."""
    try:
        link = RedisLink(url, settings.redis_prefix)
        try:
            link.check(vouched=settings.redis_vouched)
            facts, holder, memory = link.facts(), link.holder(), link.info("memory")
        finally:
            link.close()
    except ConfigError as error:
        advice = "change that; see configs/README.md, Redis"
        return [Finding("wrong", "job store", error.detail, advice)], False
    except sqlite3.Error as error:
        advice = "start Redis, or mend REDIS_URL: until then orders are answered with 503"
        return [Finding("wrong", "job store", str(error), advice)], False
    used = f"used by {words_of(holder)}" if holder else "used by nobody now"
    where = f"in Redis at {link.name}, keys {settings.redis_prefix}:*"
    if "copying" in facts:
        advice = "give the same `assets store copy` again, which ends it"
        return [Finding("wrong", "job store", f"half a copy {where}", advice)], bool(holder)
    mib = int(facts.get("size", 0)) * int(facts.get("page_size", 0)) / MIB
    said = f"{mib:.1f} MiB {where}, {used}" if mib else f"none yet {where}, {used}"
    return [Finding("ok", "job store", said), _memory(memory)], bool(holder)


def _memory(memory: dict[str, int]) -> Finding:
    used, most = memory.get("used_memory", 0), memory.get("maxmemory", 0)
    said = f"Redis uses {used / MIB:.0f} MiB" + (f" of {most / MIB:.0f}" if most else "")
    if most and used > FULL * most:
        advice = "raise maxmemory, or lower retention_days: when it is full, orders get 503"
        return Finding("wrong", "Redis's memory", said, advice)
    return Finding("ok", "Redis's memory", said)
