"""The documents of this project, the interface they describe, and how they write defaults.

Knows where they are; the tests of `test_readme*.py` know what must be true of them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from serve_app.api.asgi import DIALECTS, create_app
from serve_app.api.registry_client import RegistryClient
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.config import Settings
from tests.markdown import ROOT, Cell, Document

README = Document(ROOT / "README.md")
INSIDE = Document(ROOT / "serve_app/README.md")
RUNNING = Document(ROOT / "configs/README.md")
FIGURES = Document(ROOT / "tests/benchmarks/README.md")
DOCS = [README, INSIDE, RUNNING, FIGURES]

PATH = re.compile(r"[\w.-]+(/[\w.-]+)*(\.(py|md|ya?ml|toml|txt|svg|png|sh)|/)|\.ci/\w+|Makefile")
COMMAND = re.compile(r"(\.venv/bin/)?(assets|make|python) .*")
ROUTE = re.compile(r"((GET|POST|DELETE) )?/([a-z0-9]+|v1/\S*|output/\S*)/?")

NOT_OURS = {
    *("~/.ray/auth_token", "/tmp/ray/session_latest/logs", "serve run", "serve status"),
    *("RAY_AUTH_MODE=token", "export RAY_AUTH_MODE=token", "import_path", "runtime_env"),
    *("ray start --metrics-export-port=PORT", "registry.lock", "jobs.db-wal", "jobs.db-shm"),
    *("/data", "/metrics", "/tmp/ray/prom_metrics_service_discovery.json", "file_sd_configs"),
    *("/tmp/ray/ray_current_cluster", "--dashboard-host", "gcs_server.out"),
    *("@kayahr/aseprite", "SSL_CERT_FILE"),
    *(
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "If-None-Match",
        "file:///folder",
    ),
    *("serve/controller_*.log", "serve/replica_*.log", "worker-*-PID.err"),
}
"""Names of Ray, of Serve, of files that SQLite makes, of OpenSSL, of Amazon, and of readers that nobody here
wrote."""


def each(docs: list[Document]) -> Any:
    ids = [str(doc.path.relative_to(ROOT)) for doc in docs]
    return pytest.mark.parametrize("doc", docs, ids=ids)


def sources() -> list[Path]:
    return sorted((ROOT / "serve_app").rglob("*.py"))


def words(text: str) -> set[str]:
    """Headers are written with `-` and read with `_`; case says nothing either."""
    return {w.lower().replace("-", "_") for w in re.findall(r"[A-Za-z][\w-]{2,}", text)}


def defaults(cell: Cell, many: int) -> list[str]:
    """One each, or one for all. A list is a single one."""
    if len(cell.names) == many:
        return list(cell.names)
    return [", ".join(cell.names) or cell.text] * many


def as_written(default: Any) -> str:
    if default in (None, {}, []):
        return "none"
    if isinstance(default, list):
        return ", ".join(map(str, default))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) or '""'


class Nobody:
    """A transport that is never used."""

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any:
        raise NotImplementedError

    async def introduce(self) -> None: ...

    async def readiness(self) -> str | None: ...
    async def pools(self) -> list[Any]: ...


@cache
def interface() -> dict[str, Any]:
    """The OpenAPI description, with every dialect."""
    settings = Settings.model_validate({"dialects": [*DIALECTS]})
    models = load_models(settings.path(settings.models_file))
    app = create_app(
        settings,
        RegistryClient(Nobody()),
        styles=load_styles(settings.path(settings.styles_file), models),
        models=models,
        active=models.default,
        revision_of=lambda name: name,
    )
    return app.openapi()


@cache
def operations() -> dict[str, dict[str, Any]]:
    """By `METHOD /path`; the parts of a path have no names here."""
    return {
        f"{method.upper()} {bare(path)}": operation
        for path, methods in interface()["paths"].items()
        for method, operation in methods.items()
    }


def bare(path: str) -> str:
    return re.sub(r"\{.*?\}", "{}", path)


def parameters(operation: dict[str, Any], where: str) -> set[str]:
    return {p["name"].lower() for p in operation.get("parameters", []) if p["in"] == where}
