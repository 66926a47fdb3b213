"""Where a webhook may lead: what its URL may look like, and which network addresses may be called.

Knows URLs and addresses; resolves no name and opens no connection. A webhook is a stranger's wish that this
machine calls something: without these rules it could be made to call what only it can reach.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from serve_app.errors import InvalidField

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 1000
"""Characters."""
LIKE = ["a URL like https://build.example/hooks/art"]

# `is_global` is true for all of these (Python 3.11), and each may lead to a private address or to many.
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96",  # NAT64: an IPv4 address is inside
        "64:ff9b:1::/48",  # NAT64 of one network
        "2002::/16",  # 6to4: an IPv4 address is inside
        "2001::/32",  # Teredo: an IPv4 address is inside
        "::/96",  # IPv4-compatible: an IPv4 address is inside
    )
)
_PLAIN = re.compile(r"[\x21-\x7e]+")  # printable ASCII without a space
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBERS = re.compile(r"[0-9]|0[xX]")  # how the last label of an IPv4 address begins


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart once. What is called is built of these parts, so that no second parser can
    understand the text in another way. `target`: path and query."""

    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def target_of(url: str, allowed: Sequence[Network] = (), field: str = "webhook") -> Target:
    """Raises InvalidField for a URL that can never be called. A name is not looked up here: what it leads to
    is checked at each call. `allowed`: networks that may be called though they are not public."""
    if len(url) > MAX_URL:
        raise InvalidField(field, f"longer than {MAX_URL} characters")
    if not _PLAIN.fullmatch(url) or "\\" in url:
        raise InvalidField(field, "has characters that a URL has not", LIKE)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidField(field, "no URL", LIKE) from None
    if parts.scheme.lower() != "https":
        raise InvalidField(field, "must begin with https://", LIKE)
    if "@" in parts.netloc:
        raise InvalidField(field, "must not hold a user or a password", LIKE)
    if parts.fragment or url.endswith("#"):
        raise InvalidField(field, "must not have a fragment", LIKE)
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidField(field, "no such port", ["1 to 65535"])
    host = (parts.hostname or "").lower()
    _check_host(host, parts.netloc, allowed, field)
    path = parts.path or "/"
    return Target(host, port or 443, f"{path}?{parts.query}" if parts.query else path)


def _check_host(host: str, netloc: str, allowed: Sequence[Network], field: str) -> None:
    if netloc.startswith("["):
        literal = _address(host)
    elif _NUMBERS.match(host.rstrip(".").rpartition(".")[2]):
        # 127.1, 0x7f.1 and 2130706433 are addresses to the C library, so none of them is a name here.
        literal = _address(host)
        if literal is None:
            why = "an IPv4 address is four numbers" if _is_ipv4_to_c(host) else "no such host"
            raise InvalidField(field, why, LIKE)
    else:
        literal = None
        if not _NAME.fullmatch(host) or len(host) > 253:
            raise InvalidField(field, "no such host; a name of other letters goes as xn--", LIKE)
        bare = host.rstrip(".")
        if bare == "localhost" or bare.endswith(".localhost"):
            literal = ip_address("127.0.0.1")
    if netloc.startswith("[") and literal is None:
        raise InvalidField(field, "no such IPv6 address", LIKE)
    if literal is not None and not may_call(literal, allowed):
        raise InvalidField(field, "leads to an address that is not public", LIKE)


def _address(host: str) -> Address | None:
    try:
        found = ip_address(host)
    except ValueError:
        return None
    return None if getattr(found, "scope_id", None) else found


def _is_ipv4_to_c(host: str) -> bool:
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def may_call(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """It is public, or of a network that the operator allows."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed):
        return True
    inside = any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not inside
