"""The service keeps to its own OpenAPI document, whatever is sent: schemathesis asks, with all its checks.

A short run each time. `ASSETS_TEST_EXAMPLES=1000` makes a deep one: so many cases for each operation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serve_app.api import headers
from serve_app.api.asgi import create_app
from serve_app.api.registry_client import RegistryClient
from serve_app.api.streams import watching
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.config import Settings
from tests.api.harness import SWORDS, LocalTransport, serving, site
from tests.artifacts.pictures import rendered

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = "tests.api.schemathesis_hooks"
EXAMPLES = int(os.environ.get("ASSETS_TEST_EXAMPLES", "2"))
SECONDS = 40 + 10 * EXAMPLES
"""Budget of the run; on an idle machine it needs less."""


def shipped(transport: LocalTransport) -> FastAPI:
    """With the styles and models of the project: the examples of the document are orders of them."""
    world = transport.world
    settings = Settings(output_dir=world.files.root, state_dir=world.directory / "state")
    models = load_models(settings.path(settings.models_file))
    return create_app(
        settings,
        RegistryClient(transport),
        styles=load_styles(settings.path(settings.styles_file), models),
        models=models,
        active=models.default,
        revision_of=lambda name: f"{name}-weights",
        vocabularies={models.default: SWORDS},
    )


@pytest.mark.timeout(SECONDS + 60)
def test_every_answer_is_one_that_the_document_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LONGEST_S", 0.0)
    monkeypatch.setattr(headers, "LONGEST_WAIT_S", 0)
    with site(tmp_path, shipped) as service:
        service.limit(max_pending=1_000_000)
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(CONFIG), "run", f"{service.url}/openapi.json"),
                *("--checks", "all", "--max-examples", str(EXAMPLES), "--continue-on-failure"),
                *("--generation-deterministic", "--no-color"),
                *("--request-timeout", "20", "--max-time", str(SECONDS)),
            ],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(CONFIG.parents[2])},
            capture_output=True,
            text=True,
            timeout=SECONDS + 30,
        )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    assert "Fuzzing" in run.stdout


async def test_every_example_is_accepted(
    transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the whole body, those of all its fields together, and those of all parameters. Nothing is
    drawn here, so nobody waits for it."""
    monkeypatch.setattr(headers, "LONGEST_WAIT_S", 0)
    app = shipped(transport)
    async with serving(app) as client:
        document = app.openapi()
        order = document["components"]["schemas"]["GenerateRequest"]
        fields = {name: field["examples"][0] for name, field in order["properties"].items()}
        described = document["paths"]["/v1/generate"]["post"]["parameters"]
        said = {p["name"]: p["schema"]["examples"][0] for p in described}
        job_id = ""
        for body in (*order["examples"], fields):
            accepted = await client.post("/v1/generate", json=body, headers=said)
            assert accepted.status_code == 202, accepted.text
            job_id = accepted.json()["job_id"]
            said.pop("idempotency-key", None)
        picture = {"content-type": "image/png"}
        brought = await client.post("/v1/uploads", content=rendered()["data"], headers=picture)
        upload_id, batch_id = brought.json()["upload_id"], ""
        for body in document["components"]["schemas"]["BatchRequest"]["examples"]:
            accepted = await client.post("/v1/batches", json=body)
            assert accepted.status_code == 202, accepted.text
            batch_id = accepted.json()["batch_id"]
        for media_type, described in document["paths"]["/v1/batches"]["post"]["requestBody"][
            "content"
        ].items():
            if "example" in described:
                kind = {"content-type": media_type}
                text = described["example"]
                accepted = await client.post("/v1/batches", content=text, headers=kind)
                assert accepted.status_code == 202, accepted.text
        for path, operations in document["paths"].items():
            described = operations.get("get", {}).get("parameters", [])
            if "{path}" in path or "events" in path:
                continue
            url = path.replace("{job_id}", job_id).replace("{batch_id}", batch_id)
            url = url.replace("{upload_id}", upload_id).replace("{model}", "starter")
            by_place: dict[str, dict[str, Any]] = {"query": {}, "header": {}, "path": {}}
            for parameter in described:
                if "examples" in parameter["schema"]:
                    example = parameter["schema"]["examples"][0]
                    by_place[parameter["in"]][parameter["name"]] = example
            if "get" in operations:
                found = await client.get(url, params=by_place["query"], headers=by_place["header"])
                assert found.status_code == 200, found.text
