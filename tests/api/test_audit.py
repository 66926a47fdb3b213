"""Who cancelled, changed or deleted what stands in the log, also if it was refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from serve_app.logs import JsonFormatter
from tests.api.harness import LocalTransport, keys_of, make_app, serving
from tests.factories import JOB_ID


async def test_what_is_changed_is_told_with_its_owner_and_nothing_else_is(
    transport: LocalTransport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    anna, ben = keys_of(path, "anna", "ben")
    with caplog.at_level(logging.INFO, logger="assets.audit"):
        async with serving(make_app(transport, api_keys_file=path)) as client:
            order = {"prompt": "a key", "style_id": "icon"}
            job = (await client.post("/v1/generate", json=order, headers=anna)).json()
            url = f"/v1/jobs/{job['job_id']}"
            await client.get(url, headers=anna)
            named = {"X-Request-Id": "req-1"}
            assert (await client.delete(url, headers=ben)).status_code == 404
            assert (await client.post(f"{url}/cancel", headers=anna | named)).status_code == 200
            assert (await client.delete(url, headers=anna)).status_code == 204
            assert (await client.delete(url)).status_code == 401, "nobody: it comes no further"
    lines = [
        json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "assets.audit"
    ]
    assert [(line["owner"], line["message"]) for line in lines] == [
        ("ben", f"DELETE {url} 404"),
        ("anna", f"POST {url}/cancel 200"),
        ("anna", f"DELETE {url} 204"),
    ]
    assert lines[1]["request_id"] == "req-1"


async def test_a_method_that_is_not_there_is_told_too(
    transport: LocalTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="assets.audit"):
        async with serving(make_app(transport)) as client:
            assert (await client.put(f"/v1/jobs/{JOB_ID}")).status_code == 405
    assert [r.getMessage() for r in caplog.records] == [f"PUT /v1/jobs/{JOB_ID} 405"]
