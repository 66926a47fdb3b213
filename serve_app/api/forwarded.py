"""Where the service is mounted: Serve's `route_prefix`, and what a trusted proxy in front of it cut off.

Knows ASGI scopes and `X-Forwarded-*`; nothing of routes. A scope's `path` holds its `root_path`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
LOOPBACK = "127.0.0.1"


def root_of(scope: Scope) -> str:
    """Prefix of every link: empty, or `/assets`."""
    return scope.get("root_path", "").rstrip("/")


def path_of(scope: Scope) -> str:
    """The path below that prefix, as routes are written."""
    path, root = scope["path"], root_of(scope)
    return path.removeprefix(root) if path.startswith(root + "/") else path


class Forwarded:
    """Believes a trusted proxy which prefix, scheme and host the client asked for. Whatever others send in
    these headers is ignored. `trusted`: addresses and networks of proxies."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._trusted = [ip_network(network) for network in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._comes_from_proxy(scope):
            scope = _as_asked(scope)
        if scope["type"] == "http" and scope["path"] == root_of(scope) != "":
            scope = {**scope, "path": scope["path"] + "/"}  # as people type it
        await self._app(scope, receive, send)

    def _comes_from_proxy(self, scope: Scope) -> bool:
        if not self._trusted or scope.get("client") is None:
            return False
        host, port = scope["client"]
        if port == 0:  # uvicorn put in X-Forwarded-For, as it does for a peer on loopback only
            host = LOOPBACK
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _as_asked(scope: Scope) -> Scope:
    """A copy of the scope with the path, scheme and host that the proxy was asked for."""
    headers = Headers(scope=scope)
    asked = dict(scope)
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    if _PREFIX.fullmatch(prefix):
        asked["root_path"] = prefix + root_of(scope)
        asked["path"] = prefix + scope["path"]
        asked["raw_path"] = prefix.encode() + scope.get("raw_path", scope["path"].encode())
    scheme = _first(headers, "x-forwarded-proto").lower()
    if scheme in ("http", "https"):
        asked["scheme"] = scheme
    host = _first(headers, "x-forwarded-host")
    if _HOST.fullmatch(host):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        asked["headers"] = [(b"host", host.encode()), *others]
    return asked


def _first(headers: Headers, name: str) -> str:
    """Each proxy of a chain adds its own; the client's is the first."""
    return headers.get(name, "").partition(",")[0].strip()
