"""Signatures, read by the verifier of Standard Webhooks itself."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from serve_app.webhooks.signing import PREFIX, key_of, new_secret, signed

BODY = '{"type":"job.completed","text":"Ünïcode"}'.encode()


def test_the_verifier_of_the_specification_accepts_it() -> None:
    secret = new_secret()
    headers = signed([secret], "msg_1_completed", int(time.time()), BODY)
    assert Webhook(secret).verify(BODY, headers)["type"] == "job.completed"


def test_while_a_secret_is_replaced_both_verify() -> None:
    old, new = new_secret(), new_secret()
    headers = signed([new, old], "msg_1_completed", int(time.time()), BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


Change = Callable[[dict[str, str]], dict[str, str]]


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: headers | {"webhook-id": "msg_2_completed"},
        lambda headers: headers | {"webhook-timestamp": str(int(time.time()) + 1)},
    ],
)
def test_what_is_signed_cannot_be_changed(change: Change) -> None:
    secret = new_secret()
    headers = change(signed([secret], "msg_1_completed", int(time.time()), BODY))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers)


def test_a_secret_is_as_long_as_the_specification_wants() -> None:
    assert len(key_of(new_secret())) == 32
    for length in (24, 64):
        assert len(key_of(PREFIX + base64.b64encode(b"x" * length).decode())) == length
    for wrong in (
        PREFIX + base64.b64encode(b"x" * 23).decode(),
        PREFIX + base64.b64encode(b"x" * 65).decode(),
        PREFIX + "not base64",
        base64.b64encode(b"x" * 32).decode(),
        PREFIX,
    ):
        with pytest.raises(ValueError, match="whsec_") as refusal:
            key_of(wrong)
        assert wrong == PREFIX or wrong not in str(refusal.value)
