from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.streams import watching
from tests.serving import listening


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams look for changes more often than real readers need."""
    monkeypatch.setattr(watching, "PACE_S", 0.01)
    monkeypatch.setattr(watching, "REFRESH_S", 0.05)


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    async with listening(app) as client:
        yield client
