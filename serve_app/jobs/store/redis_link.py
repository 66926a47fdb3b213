"""RedisLink: a server, checked to be one that keeps what it confirms, and the keys of one store there.

Knows Redis and its errors. Does not know what the pages are of, nor when they are written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlsplit

from serve_app.errors import ConfigError

FORMAT = "ai-asset-generator store 1"
KEYS = {"store": "hash", "pages": "hash", "changed": "zset", "lease": "string"}
"""Names and types of the keys, in the order in which scripts get them."""
DEMANDED = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
"""Without these, what was confirmed may be lost."""
CONNECT_S, ANSWER_S = 2.0, 10.0


class StoreAway(sqlite3.OperationalError):
    """Redis does not answer, or refuses to write now. Nothing of the commit will be seen."""


class RedisLink:
    """The store `prefix` at `url`. Methods raise StoreAway."""

    def __init__(self, url: str, prefix: str) -> None:
        """Connects to nobody yet. Raises ConfigError."""
        try:
            import redis
            from redis import exceptions
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ConfigError(
                "for REDIS_URL, install the extra `redis` first: pip install 'ai-asset-generator[redis]'"
            ) from error
        self._errors = exceptions
        self.name = without_password(url)
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_S,
                socket_timeout=ANSWER_S,
                retry=Retry(NoBackoff(), 0),  # whoever calls knows what may be sent twice
            )
        except ValueError as error:
            raise ConfigError(
                f"REDIS_URL {self.name!r} is no address: write it like redis://:PASSWORD@host:6379/0"
            ) from error
        self.prefix = prefix
        self.keys = [f"{prefix}:{key}" for key in KEYS]

    def check(self, *, vouched: bool) -> None:
        """Raises ConfigError, saying what to change, unless this server keeps what it confirms and the keys
        are ours or not there. `vouched`: somebody knows its settings although it tells nobody."""
        role = self.ask("ROLE")[0]
        if _text(role) != "master":
            raise ConfigError(
                f"Redis at {self.name} is a replica: name the server that it follows, which can be written"
            )
        if self.info("cluster").get("cluster_enabled"):
            raise ConfigError(
                f"Redis at {self.name} is in cluster mode: the store needs a single server (with replicas, if"
                " you like), since a commit must be one"
            )
        self._check_settings(vouched)
        for (key, kind), full in zip(KEYS.items(), self.keys, strict=True):
            found = _text(self.ask("TYPE", full))
            if found not in ("none", kind):
                raise ConfigError(self._foreign(f"{full} is a {found}, not our {key}"))
        form = self.ask("HGET", self.keys[0], "format")
        if form is not None and _text(form) != FORMAT:
            raise ConfigError(self._foreign(f"{self.keys[0]} has the format {_text(form)!r}"))
        if form is None and (there := [key for key in self.keys if self.ask("EXISTS", key)]):
            raise ConfigError(
                self._foreign(f"{there[0]} is there, and {self.keys[0]} does not say whose")
            )

    def _foreign(self, what: str) -> str:
        return (
            f"Redis at {self.name} holds keys of somebody else: {what}. Nothing was changed;"
            " choose another redis_prefix, or another database in REDIS_URL"
        )

    def info(self, section: str) -> dict[str, Any]:
        """Empty: the server tells nobody."""
        try:
            return dict(self._client.info(section))
        except self._errors.ResponseError:
            return {}
        except self._errors.RedisError as error:
            raise self.away(error) from error

    def _check_settings(self, vouched: bool) -> None:
        wrong: list[str] = []
        for name, wanted in DEMANDED.items():
            found = self.setting(name)
            if found is None and not vouched:
                raise ConfigError(
                    f"Redis at {self.name} forbids CONFIG GET, so its settings cannot be checked. See to"
                    f" it that {', '.join(f'{one} is {value}' for one, value in DEMANDED.items())}; then"
                    " set redis_vouched: true"
                )
            if found not in (None, wanted):
                wrong.append(f"{name} is {found}: CONFIG SET {name} {wanted}")
        if wrong:
            raise ConfigError(
                f"Redis at {self.name} may lose jobs that it has confirmed: {'; '.join(wrong)};"
                " then CONFIG REWRITE, or the same in redis.conf"
            )

    def setting(self, name: str) -> str | None:
        """None: the server does not tell."""
        try:
            found = self._client.execute_command("CONFIG GET", name)
        except self._errors.ResponseError:
            return None
        except self._errors.RedisError as error:
            raise self.away(error) from error
        pairs = (
            found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        )
        return {_text(key): _text(value) for key, value in pairs}.get(name)

    def run(self, script: str, *args: Any) -> list[Any]:
        """What the script returns for the keys of this store."""
        return cast(list[Any], self.ask("EVAL", script, len(self.keys), *self.keys, *args))

    def pages(self, numbers: Iterable[int]) -> list[bytes | None]:
        """None: there is no such page."""
        return cast("list[bytes | None]", self.ask("HMGET", self.keys[1], *numbers))

    def facts(self) -> dict[str, str]:
        """What `store` holds; empty: there is no store."""
        found = self.ask("HGETALL", self.keys[0])
        pairs = (
            found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        )
        return {_text(key): _text(value) for key, value in pairs}

    def holder(self) -> str | None:
        found = self.ask("GET", self.keys[3])
        return None if found is None else _text(found)

    def ask(self, *command: Any) -> Any:
        """Raises StoreAway, or ConfigError if it is not allowed."""
        try:
            return self._client.execute_command(*command)
        except self._errors.AuthenticationError as error:
            raise ConfigError(
                f"Redis at {self.name} refuses the password or user of REDIS_URL: {error}"
            ) from error
        except self._errors.NoPermissionError as error:
            raise ConfigError(
                f"Redis at {self.name} forbids what the store needs: {error}"
            ) from error
        except self._errors.RedisError as error:
            raise self.away(error) from error

    def away(self, error: Exception) -> StoreAway:
        self._client.connection_pool.disconnect()
        return StoreAway(f"Redis at {self.name} keeps nothing now: {error}")

    def close(self) -> None:
        self._client.close()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def without_password(url: str) -> str:
    """Host, port and database."""
    try:
        parts = urlsplit(url)
        where = f"{parts.hostname or ''}:{parts.port or 6379}" if parts.hostname else parts.netloc
    except ValueError:
        return "REDIS_URL"
    return f"{where}{parts.path}"
