from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from tests.api.harness import MemoryRegistry, make_app, serving


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
async def client(registry: MemoryRegistry, tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    async with serving(make_app(registry, tmp_path)) as client:
        yield client
