"""create_app: what the parts are put together to."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from serve_app.api.asgi import create_app
from serve_app.api.registry_client import RegistryClient
from serve_app.config import Settings
from serve_app.errors import ConfigError
from tests.api.harness import (
    MODELS,
    STYLES,
    LocalTransport,
    make_app,
    ordered,
    service_of,
    serving,
)


async def test_the_documentation_needs_no_internet(client: httpx.AsyncClient) -> None:
    """Script, style sheet and icon come from the service itself, and nothing else may run there."""
    page = await client.get("/docs")
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        assert part.startswith("/docs/"), part
        assert (await client.get(part)).status_code == 200, part
    assert "http" not in page.headers["content-security-policy"]


def test_a_wrong_key_file_is_refused(transport: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        make_app(transport, api_keys_file=tmp_path / "nowhere")


async def test_the_registry_is_followed_while_the_app_runs(transport: LocalTransport) -> None:
    """Before and after, nobody watches."""
    app = make_app(transport)
    assert transport.calls["watch"] == 0
    async with serving(app):
        await transport.caught_up()
        assert service_of(app).view.fresh
        assert "follow" in tasks()
    assert "follow" not in tasks()


def tasks() -> set[str]:
    """Names of the coroutines that run."""
    return {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}


async def test_weights_are_hashed_once(transport: LocalTransport) -> None:
    """It takes seconds, and each order needs it."""
    asked: list[str] = []

    def revision_of(name: str) -> str:
        asked.append(name)
        return "hash"

    app = create_app(
        Settings(),
        RegistryClient(transport),
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=revision_of,
    )
    async with serving(app) as client:
        for _ in range(2):
            await ordered(client)
    assert asked == ["tiny"]
