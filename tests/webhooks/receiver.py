"""A receiver of webhooks on a real port with a real certificate, whose answers a test chooses.

Knows HTTP as bytes, so that it can answer wrongly. Its certificate is for build.example.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network
from pathlib import Path

import trustme

NAME = "build.example"
ALLOWED = (ip_network("127.0.0.0/8"),)

Answer = Callable[["Call", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Call:
    """One request, as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


def says(status: int, *headers: str, body: bytes = b"") -> Answer:
    """Answers so, as servers do."""

    async def answer(_: Call, writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(head).encode() + body)

    return answer


def writes(data: bytes) -> Answer:
    """Answers with these very bytes."""

    async def answer(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


async def never(_: Call, writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing, as long as the other side listens."""
    await writer.wait_closed()


@dataclass
class Receiver:
    """`answer`: to the next calls."""

    port: int
    answer: Answer = field(default_factory=lambda: says(200))
    calls: list[Call] = field(default_factory=list[Call])

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            call = Call(head[0], headers, body)
            self.calls.append(call)
            await self.answer(call, writer)
            await writer.drain()
        writer.close()


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def certificates(folder: Path) -> str:
    """A file with the certificate that signs that of every receiver."""
    path = folder / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return str(path)


def receiver_tls(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*(names or (NAME,))).configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def receiving(answer: Answer | None = None, *names: str) -> AsyncGenerator[Receiver]:
    """`names`: of the certificate."""
    receiver = Receiver(0)
    if answer is not None:
        receiver.answer = answer
    server = await asyncio.start_server(
        receiver.serve, "127.0.0.1", 0, ssl=receiver_tls(*names), limit=2**20
    )
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver
