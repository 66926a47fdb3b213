"""Sender: one POST to a webhook, and what came of it.

Knows HTTP on the wire. Each call looks its name up once, checks every address, and connects to one of those:
a name that changes its mind afterwards changes nothing. It follows no redirect, asks no proxy, reads no more
of the answer than its head, and never takes longer than TIMEOUT_S.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpcore

from serve_app.errors import InvalidField
from serve_app.webhooks.address import Network, Target, may_call, target_of

TIMEOUT_S = 15.0
CONNECT_S = 5.0
"""To one address of several."""

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a call. `status`: of the answer; None: there was none, and `error` says why in words for
    the owner of the webhook. `ms`: how long it took."""

    status: int | None
    error: str | None
    ms: int

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


async def look_up(host: str, port: int) -> list[str]:
    """Every address of a name, in the order of the resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Sender:
    """`allowed`: networks that may be called though they are not public. `ca_file`: certificates that are
    believed beside those of the system."""

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        ca_file: str | None = None,
        resolve: Resolve = look_up,
    ) -> None:
        """Raises OSError if `ca_file` cannot be read."""
        self._allowed = allowed
        self._tls = ssl.create_default_context()
        if ca_file is not None:
            self._tls.load_verify_locations(ca_file)
        self._resolve = resolve

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """Raises nothing that a receiver can cause."""
        began = time.monotonic()
        status, error = None, None
        try:
            target = target_of(url, self._allowed)
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._status(target, headers, body)
        except InvalidField as wrong:
            error = wrong.detail
        except TimeoutError:
            error = f"no answer within {TIMEOUT_S:g} s"
        except (OSError, httpcore.NetworkError, httpcore.TimeoutException) as failed:
            error = _why(failed)
        except httpcore.ProtocolError:
            error = "the answer is no HTTP"
        return Sent(status, error, round((time.monotonic() - began) * 1000))

    async def _status(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        backend = _Pinned(self._allowed, self._resolve)
        async with httpcore.AsyncConnectionPool(
            ssl_context=self._tls, network_backend=backend, max_connections=1, http2=False
        ) as pool:
            request = httpcore.Request(
                "POST",
                httpcore.URL(
                    scheme="https", host=target.host, port=target.port, target=target.target
                ),
                headers={
                    "Host": target.authority,
                    "Content-Length": str(len(body)),
                    "Connection": "close",
                    **headers,
                },
                content=body,
            )
            response = await pool.handle_async_request(request)
            await response.aclose()
            return response.status


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that it has checked itself, and to nothing else."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve) -> None:
        self._allowed, self._resolve = allowed, resolve
        self._backend: Any = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        # One that is not public is one too many: whoever answers for the name decides which is taken.
        if not all(may_call(ip_address(one), self._allowed) for one in addresses):
            raise OSError("it leads to an address that is not public")
        failed: Exception = OSError("its name leads nowhere")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, CONNECT_S, local_address, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failed = error
        raise failed

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise OSError("a webhook is no file")

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def _why(failed: Exception) -> str:
    """In words for whoever runs the receiver. It names no address that a name has led to."""
    causes = [failed, *filter(None, (failed.__cause__, failed.__context__))]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not good: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "it speaks no TLS"
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
    if isinstance(failed, httpcore.ConnectTimeout | httpcore.ConnectError):
        return "it cannot be reached"
    if isinstance(failed, OSError) and failed.errno is None:
        return str(failed)
    return "the connection broke"
