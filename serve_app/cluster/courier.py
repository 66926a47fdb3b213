"""Courier: the process that calls webhooks for the registry, which owns it: they die together.

What strangers' servers answer is read in a process that holds no job. Knows where secrets are and how calls
are made (`webhooks/`); nothing of schedules, and what it was given is sent once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from serve_app import __version__, logs
from serve_app.errors import ConfigError
from serve_app.jobs.deliveries import CourierLost
from serve_app.messages import Handed, Parcel, WebhookSettings
from serve_app.webhooks.owners import HookFile
from serve_app.webhooks.sending import TIMEOUT_S, Sender
from serve_app.webhooks.signing import signed

log = logging.getLogger("assets.webhooks")

GRACE_S = 15.0
"""Beside TIMEOUT_S: a process takes seconds to start."""
OFF = WebhookSettings(file=None, networks=[], ca_file=None)


class Post:
    """Signs and sends with given settings. Raises ConfigError if a file is missing or wrong."""

    def __init__(self, settings: WebhookSettings) -> None:
        self.settings = settings
        if settings["file"] is None:
            raise ConfigError("this server sends no webhooks")
        self._owners = HookFile(Path(settings["file"]))
        try:
            networks = [ip_network(network) for network in settings["networks"]]
            self._sender = Sender(networks, settings["ca_file"])
        except OSError as error:
            raise ConfigError("webhook_ca_file cannot be read") from error

    async def send(self, parcel: Parcel) -> Handed:
        owner = self._owners.get(parcel["owner"])
        if owner is None:
            return refused(parcel, "there is no secret to sign with")
        body, now = parcel["body"].encode(), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"assets/{__version__}",
            **signed(owner.secrets, parcel["id"], now, body),
        }
        sent = await self._sender.post(parcel["url"], headers, body)
        return Handed(number=parcel["number"], status=sent.status, error=sent.error, ms=sent.ms)


def refused(parcel: Parcel, why: str) -> Handed:
    return Handed(number=parcel["number"], status=None, error=why, ms=0)


class CourierActor:
    """In the process itself."""

    def __init__(self) -> None:
        logs.configure()
        self._post: Post | None = None

    async def deliver(self, settings: WebhookSettings, parcels: list[Parcel]) -> list[Handed]:
        try:
            post = self._with(settings)
        except ConfigError as error:
            log.error("webhooks wait: %s", error.detail)
            return [refused(parcel, "this server cannot send webhooks now") for parcel in parcels]
        return await asyncio.gather(*map(post.send, parcels))

    def _with(self, settings: WebhookSettings) -> Post:
        if self._post is None or self._post.settings != settings:
            self._post = Post(settings)
        return self._post


class CourierProcess:
    """In the registry. `create()` starts a CourierActor; one that has died is replaced at the next call."""

    def __init__(self, create: Callable[[], Any], settings: WebhookSettings) -> None:
        self._create, self._settings = create, settings
        self._actor: Any = None

    def use(self, settings: WebhookSettings) -> None:
        """From the next call on."""
        self._settings = settings

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Handed]:
        """Raises CourierLost."""
        actor = self._actor = self._actor or self._create()
        try:
            async with asyncio.timeout(TIMEOUT_S + GRACE_S):
                return await actor.deliver.remote(self._settings, list(parcels))
        except (RayError, TimeoutError) as error:
            if self._actor is actor:
                self._actor = None
                _end(actor)
            raise CourierLost(f"the courier is gone: {error}"[:300]) from error


def _end(actor: Any) -> None:
    """It may only have been out of reach."""
    try:
        ray.kill(actor)
    except RayError as error:
        log.warning("a courier could not be ended: %s", error)
