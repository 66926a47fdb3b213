"""Dashboard: the Serve part of Ray's dashboard, over HTTP, with Ray's token.

Knows addresses and answers of Ray 2.60; nothing of what is deployed.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

import httpx

from serve_app.errors import NotServing

SERVE = "/api/serve/applications/"
ACTORS = "/api/v0/actors"
REPLICA = "SERVE_REPLICA::"
NO_TOKEN = (
    "Ray asks for a token, and this shell has {what}. See `ray get-auth-token` on the head node"
)


class Process(NamedTuple):
    """An actor of the service: what it is, and the environment it was started with."""

    name: str
    state: str
    pid: int
    environment: dict[str, str]


class Dashboard:
    def __init__(self, address: str) -> None:
        """`address`: such as http://127.0.0.1:8265."""
        self._address = address
        self._http = httpx.Client(base_url=address, headers=_token(), timeout=30)

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def serve(self) -> dict[str, Any]:
        """Serve's details: `applications` by name, `http_options`, `proxy_location`."""
        return self._ask("GET", SERVE).json()

    def deploy(self, config: dict[str, Any]) -> None:
        """Returns when Serve has taken the config, long before it runs."""
        self._ask("PUT", SERVE, json=config)

    def processes(self, app_name: str) -> Iterator[Process]:
        """The living replicas of an application, and its registry."""
        reply = self._ask("GET", ACTORS, params={"detail": 1, "limit": 1000}).json()
        for actor in reply["data"]["result"]["result"]:
            name = actor["name"] or ""
            ours = name == f"{app_name}-registry" or name.startswith(f"{REPLICA}{app_name}#")
            if ours and actor["state"] != "DEAD":
                runtime_env = json.loads(actor["serialized_runtime_env"] or "{}")
                short = name.removeprefix(f"{REPLICA}{app_name}#").partition("#")[0]
                environment = runtime_env.get("env_vars", {})
                yield Process(short, actor["state"], actor["pid"], environment)

    def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, path, **what)
        except httpx.TransportError as error:
            raise NotServing(
                f"Ray's dashboard does not answer at {self._address} ({error or type(error).__name__}). "
                "`ray start --head` starts a cluster; --address names another one's dashboard"
            ) from error
        if reply.status_code == 401:
            raise NotServing(NO_TOKEN.format(what="none"))
        if reply.status_code == 403:
            raise NotServing(NO_TOKEN.format(what="another one"))
        if reply.is_error:
            raise NotServing(f"Ray answers {reply.status_code}: {reply.text[-1000:]}")
        return reply


def _token() -> dict[str, str]:
    """The header that shows Ray's token, if this user has one. Ray's own tools send it only where
    RAY_AUTH_MODE says so."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )

    raylet: Any = importlib.import_module("ray._raylet")

    raylet.Config.initialize("")  # Ray may have read its variables already
    if not raylet.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return {}
    return get_auth_headers_if_auth_enabled({})
