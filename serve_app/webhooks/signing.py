"""Signatures of webhooks, as Standard Webhooks 1.0 has them: HMAC-SHA256 over id, time and body.

Knows secrets and bytes; nothing of who is called, nor where secrets are kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
NEW_BYTES = 32
BYTES = range(24, 65)
"""How long a secret may be, by the specification."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Raises ValueError, which does not show the secret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or len(key) not in BYTES:
        raise ValueError(f"a secret is {PREFIX} and {BYTES[0]} to {BYTES[-1]} bytes in base64")
    return key


def signed(given: Sequence[str], message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers that go with `body`. `given`: every secret that is valid now; a receiver needs to know one.
    `at`: unix seconds of this attempt."""
    text = f"{message_id}.{at}.".encode() + body
    signatures = (hmac.new(key_of(secret), text, hashlib.sha256).digest() for secret in given)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }
