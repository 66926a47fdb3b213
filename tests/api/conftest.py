from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.api.harness import LocalTransport, make_app, serving
from tests.jobs.harness import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    """A registry on its store, whose attempts the test steers."""
    async with World(tmp_path) as world:
        yield world


@pytest.fixture
def transport(world: World) -> LocalTransport:
    """The app's way to the registry, which the test can cut."""
    return LocalTransport(world)


@pytest.fixture
def app(transport: LocalTransport) -> FastAPI:
    return make_app(transport)


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    async with serving(app) as client:
        yield client
