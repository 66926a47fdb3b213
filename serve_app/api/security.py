"""ASGI middlewares that every request passes: request id and reply headers, host, API key, body.

They know nothing of routes, except which paths need no key. A guard refuses by raising; `Answers` turns
exceptions into replies.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.forwarded import path_of
from serve_app.api.grants import ADMIN, CURRENT, ORDER, READ, Buckets
from serve_app.api.keys import KeyFile, KeyLine
from serve_app.api.once import check_names
from serve_app.api.problems import answer
from serve_app.errors import BadRequest, Forbidden, TooFast, Unauthorized

log = logging.getLogger("assets.api")

LOCAL = "local"
"""The owner of every job where no key file is set."""

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
OPEN_PREFIXES = ("/output/", "/docs/", "/web/")  # a URL below /output is itself the secret
BASIC_PREFIX = "/sdapi/"
"""Clients of the web UI know no other credentials than a user and a password, which is the key here."""
ADMIN_PREFIX = "/v1/admin/"
LOOKING = frozenset({"/v1/inspect", "/sdapi/v1/png-info"})
"""POSTs that change nothing."""
POLICY = "default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (  # /docs has a script and styles inline; all its files come from this server
    "default-src 'none'; frame-ancestors 'none'; connect-src 'self'; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
)
PAGE_POLICY = (  # no script but its own files, and none that is made of text
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def _hardening(policy: str) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),  # /output URLs are secrets
        (b"content-security-policy", policy.encode()),
    )


HARDENING = _hardening(POLICY)


def _by_path(files_origin: str) -> dict[str, tuple[tuple[bytes, bytes], ...]]:
    policy = PAGE_POLICY
    if files_origin:
        policy = policy.replace("data: blob:;", f"data: blob: {files_origin};")
        policy = policy.replace("connect-src 'self';", f"connect-src 'self' {files_origin};")
    return {"/": _hardening(policy), "/docs": _hardening(DOCS_POLICY)}


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RANGE = re.compile(r"([0-9]+)-([0-9]*)|-[0-9]+")
_LONGEST_RANGE = 2000  # characters of the header
_KEPT = ("Allow", "Content-Range")  # of an answer that becomes a problem
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::[0-9]+)?")


class Doorstep:
    """Gives the request an id, and adds security headers to the reply. `files_origin`: of another server that
    the page's pictures may come from."""

    def __init__(self, app: ASGIApp, files_origin: str = "") -> None:
        self._app, self._by_path = app, _by_path(files_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = self._by_path.get(path_of(scope), HARDENING)
                # Ray's proxy gives an id to a request that has none, and adds the header by itself.
                if given is None:
                    added = ((b"x-request-id", request_id.encode()), *added)
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_hardened)


class Answers:
    """Turns every exception, and every refusal that Starlette writes as plain text, into a problem document.
    Drops a `Range` header that is not understood, as RFC 9110 wants."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("range")
        if wanted is not None and not _understood(wanted):
            others = [(name, value) for name, value in scope["headers"] if name != b"range"]
            scope = {**scope, "headers": others}
        started, refused = False, None

        async def send_judged(message: Message) -> None:
            nonlocal started, refused
            if not started and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                plain = headers.get("content-type", "").startswith("text/plain")
                if message["status"] >= 400 and plain:
                    kept = {name: headers[name] for name in _KEPT if name in headers}
                    refused = HTTPException(message["status"], headers=kept)
                else:
                    started = True
            if refused is None:
                await send(message)

        try:
            await self._app(scope, receive, send_judged)
        except Exception as error:
            if started:
                raise
            refused = error
        if refused is not None:
            reply = answer(refused, scope["path"], scope["state"]["request_id"])
            await reply(scope, receive, send)


def _understood(wanted: str) -> bool:
    """It asks for bytes, as RFC 9110 writes it (14.1.1), and no part of it ends before it begins."""
    unit, _, ranges = wanted.partition("=")
    parts = [_RANGE.fullmatch(part.strip()) for part in ranges.split(",") if part.strip()]
    if unit.strip().lower() != "bytes" or len(wanted) > _LONGEST_RANGE or not parts:
        return False
    return all(part and (not part[2] or int(part[1]) <= int(part[2])) for part in parts)


class HostGuard:
    """Refuses other Host headers: by DNS rebinding, a web page could otherwise order from 127.0.0.1."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = {host.lower() for host in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self._allowed:
            host = _HOST.fullmatch(Headers(scope=scope).get("host", ""))
            if host is None or host[1].lower() not in self._allowed:
                raise BadRequest("This Host is not served here.", code="host_not_allowed")
        await self._app(scope, receive, send)


class KeyGuard:
    """Finds the owner of a request by its API key, and refuses what this key may not do; `local`, who may do
    everything, where no key file is set."""

    def __init__(
        self, app: ASGIApp, keys: KeyFile | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._keys = keys
        self._buckets = Buckets(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(path_of(scope)):
            scope.setdefault("state", {})["owner"] = self._owner(scope)
        await self._app(scope, receive, send)

    def _owner(self, scope: Scope) -> str:
        if self._keys is None:
            return LOCAL
        path = path_of(scope)
        found = self._found(Headers(scope=scope), basic=path.startswith(BASIC_PREFIX))
        CURRENT.set(found.grant)
        needed = scope_of(scope["method"], path)
        if needed not in found.grant.scopes:
            have = ", ".join(sorted(found.grant.scopes))
            raise Forbidden(
                "scopes", f"This needs a key with the scope {needed}; yours has {have}."
            )
        if (rate := found.grant.rate) is not None:
            wait_s = self._buckets.take(found.digest, rate)
            if wait_s is not None:
                raise TooFast(f"Your key may send {rate} requests here.", wait_s)
        return found.owner

    def _found(self, headers: Headers, *, basic: bool) -> KeyLine:
        assert self._keys is not None
        kind, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if basic and kind.lower() == "basic":
            key = _password(token.strip())
        found = self._keys.find(key)
        if found is None:
            raise Unauthorized("Send `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
        return found


def scope_of(method: str, path: str) -> str:
    """What a key must be allowed to."""
    if path.startswith(ADMIN_PREFIX):
        return ADMIN
    return READ if method in ("GET", "HEAD") or path in LOOKING else ORDER


def _password(token: str) -> str:
    """Of Basic credentials; empty if they are none."""
    try:
        return base64.b64decode(token, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


@dataclass(frozen=True, slots=True)
class BodyRule:
    """What a body may be. `optional`: there may be none, and then it has no type."""

    max_bytes: int
    media_types: tuple[str, ...] = ("application/json",)
    optional: bool = True

    def accepts(self, media_type: str, *, bodiless: bool) -> bool:
        return media_type in self.media_types or (self.optional and bodiless and not media_type)


class BodyGuard:
    """Reads the whole body of a POST before the app runs, at most so many bytes in `timeout_s`, and checks
    its media type. `others`: rules of paths whose bodies are larger, or no JSON."""

    def __init__(
        self, app: ASGIApp, max_bytes: int, timeout_s: float, others: Mapping[str, BodyRule]
    ) -> None:
        self._app = app
        self._json = BodyRule(max_bytes)
        self._others = others
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        rule = self._others.get(path_of(scope), self._json)
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        bodiless = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        if not rule.accepts(media_type, bodiless=bodiless):
            raise HTTPException(415, f"Send the body as {' or '.join(rule.media_types)}.")
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise HTTPException(415, "Send the body as it is, without Content-Encoding.")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > rule.max_bytes:
            raise _too_large(rule)
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._read(receive, rule)
        except TimeoutError:
            detail = f"The body did not come within {self._timeout_s:g} s."
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        if body["type"] == "http.request":
            _check(body["body"], headers, bodiless=bodiless)
            if media_type == "application/json":
                check_names(body["body"])
        pending = [body]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive, rule: BodyRule) -> Message:
        """The whole body as one message, or the disconnect message if the client left before its end."""
        chunks = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            chunks += message.get("body", b"")
            if len(chunks) > rule.max_bytes:  # Content-Length may be wrong or absent
                raise _too_large(rule)
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(chunks), "more_body": False}


def _check(body: bytes, headers: Headers, *, bodiless: bool) -> None:
    """Raises BadRequest if not all of the body has come: servers drop it where a request asks for another
    protocol, as Java's HttpClient does with each."""
    length = headers.get("content-length", "")
    lost = "upgrade" in headers and not body and not bodiless
    if lost or (length.isdecimal() and int(length[:20]) != len(body)):
        detail = f"{len(body)} bytes of the body came, not all of them."
        if "upgrade" in headers:
            detail += " Send no Upgrade header: HTTP/1.1 is spoken here."
        raise BadRequest(detail)


def _too_large(rule: BodyRule) -> HTTPException:
    return HTTPException(413, f"A body may have {rule.max_bytes} bytes.")
