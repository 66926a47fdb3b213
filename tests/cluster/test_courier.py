"""The courier signs and sends by the file and the settings of now; a receiver verifies with the
specification's own package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from serve_app.cluster import courier as module
from serve_app.cluster.courier import CourierActor
from serve_app.messages import Parcel, WebhookSettings
from serve_app.webhooks.address import Network
from serve_app.webhooks.owners import add_secret, rotate_secret
from serve_app.webhooks.sending import Sender
from tests.webhooks.receiver import NAME, certificates, receiving

BODY = json.dumps({"type": "job.completed", "data": {"metadata": {"name": "Ünïcode \ud800"}}})


class Local(Sender):
    """Names lead to this host."""

    def __init__(self, allowed: Sequence[Network], ca_file: str | None) -> None:
        async def resolve(_host: str, _port: int) -> list[str]:
            return ["127.0.0.1"]

        super().__init__(allowed, ca_file, resolve)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebhookSettings:
    monkeypatch.setattr(module, "Sender", Local)
    return WebhookSettings(
        file=str(tmp_path / "webhooks.yaml"),
        networks=["127.0.0.0/8"],
        ca_file=certificates(tmp_path),
    )


def parcel(url: str, number: int = 1, owner: str = "studio") -> Parcel:
    return Parcel(number=number, id=f"msg_{number}_completed", owner=owner, url=url, body=BODY)


async def test_a_receiver_verifies_every_secret_that_is_valid(
    tmp_path: Path, settings: WebhookSettings
) -> None:
    old = add_secret(tmp_path / "webhooks.yaml", "studio")
    new = rotate_secret(tmp_path / "webhooks.yaml", "studio")
    async with receiving() as receiver:
        sent = await CourierActor().deliver(settings, [parcel(receiver.url)])
        (call,) = receiver.calls
    assert (sent[0]["status"], sent[0]["error"]) == (200, None)
    for secret in (old, new):
        assert Webhook(secret).verify(call.body, call.headers)["type"] == "job.completed"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["user-agent"].startswith("assets/")
    assert call.headers["host"] == f"{NAME}:{receiver.port}"


async def test_each_parcel_has_its_own_result(tmp_path: Path, settings: WebhookSettings) -> None:
    add_secret(tmp_path / "webhooks.yaml", "studio")
    async with receiving() as receiver:
        parcels = [
            parcel(receiver.url),
            parcel(receiver.url, 2, "nobody"),
            parcel("https://10.0.0.1/", 3),
        ]
        sent = await CourierActor().deliver(settings, parcels)
        assert len(receiver.calls) == 1
    assert [one["number"] for one in sent] == [1, 2, 3]
    assert sent[1]["error"] == "there is no secret to sign with"
    assert "not public" in (sent[2]["error"] or "")


async def test_settings_that_are_wrong_are_a_failure_and_the_next_ones_count(
    tmp_path: Path, settings: WebhookSettings
) -> None:
    add_secret(tmp_path / "webhooks.yaml", "studio")
    actor = CourierActor()
    wrong: list[WebhookSettings] = [
        {**settings, "file": None},
        {**settings, "file": str(tmp_path / "nothing.yaml")},
        {**settings, "ca_file": str(tmp_path / "nothing.pem")},
    ]
    async with receiving() as receiver:
        for one in wrong:
            (sent,) = await actor.deliver(one, [parcel(receiver.url)])
            assert sent["error"] == "this server cannot send webhooks now"
        assert receiver.calls == []
        (sent,) = await actor.deliver(settings, [parcel(receiver.url)])
        assert sent["status"] == 200
