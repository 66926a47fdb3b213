"""keepers: where the job store of an application is kept, by its settings.

Knows the settings and both kinds of keepers; nothing of what is kept there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from serve_app.config import Settings
from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.store.directory import Directory, Keeper
from serve_app.jobs.store.redis import RedisKeeper
from serve_app.jobs.store.redis_lease import LEASE_S, lives_here, words_of
from serve_app.jobs.store.redis_link import RedisLink, without_password


def keeper_of(settings: Settings, on_lost: Callable[[str], None]) -> Keeper:
    """Held by this process from now on. `on_lost`: is told by a thread why it is not any more. Raises
    StoreHeld, ConfigError or sqlite3.Error."""
    state = settings.path(settings.state_dir)
    if settings.redis_url is None:
        return Directory(state)
    return RedisKeeper(
        settings.redis_url,
        state,
        prefix=settings.redis_prefix,
        vouched=settings.redis_vouched,
        lock_timeout_s=1.5 * LEASE_S,  # that of a machine which died must end first
        on_lost=on_lost,
    )


def refuse_unfit_redis(settings: Settings) -> None:
    """Before anything is started. Raises ConfigError if the server does not answer, or may lose jobs."""
    if settings.redis_url is None:
        return
    link = RedisLink(settings.redis_url, settings.redis_prefix)
    try:
        link.check(vouched=settings.redis_vouched)
    except sqlite3.Error as error:
        raise ConfigError(str(error)) from error
    finally:
        link.close()


def refuse_used_redis(settings: Settings, url: str) -> None:
    """Before a second service is started on this machine: it would only wait for the store. Raises StoreHeld,
    ConfigError."""
    link = RedisLink(url, settings.redis_prefix)
    try:
        holder = link.holder()
    except sqlite3.Error as error:
        raise ConfigError(str(error)) from error
    finally:
        link.close()
    if holder and lives_here(holder):
        raise StoreHeld(
            f"the job store {settings.redis_prefix!r} at {link.name} is in use by {words_of(holder)}: the"
            " service runs already, or its redis_prefix is that of another one"
        )


def store_name(settings: Settings) -> str:
    """Two registries with the same name would be one. No password is in it."""
    if settings.redis_url is None:
        return str(settings.path(settings.state_dir))
    return f"redis://{without_password(settings.redis_url)} {settings.redis_prefix}"
