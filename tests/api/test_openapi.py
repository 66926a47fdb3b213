"""The OpenAPI document: complete, and true to what the routes answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.harness import LocalTransport, keys_of, make_app, serving


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/openapi.json")).json()


async def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """Summary, description, an answer with an example or schema, and every error as a problem."""
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert len(operations) == 39
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        responses = operation["responses"]
        assert {"400", "500", "default"} <= set(responses)
        for status, response in responses.items():
            assert response["description"]
            if status not in ("default", "200", "201", "202", "204", "206", "304"):
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert str(content["example"]["status"]) == status
            if status in ("429", "503"):
                assert "Retry-After" in response["headers"]
        for parameter in operation.get("parameters", []):
            assert parameter["description"]
            if parameter["name"] != "cursor":  # it goes with the list that it came from
                assert parameter["schema"]["examples"]


async def test_every_field_has_a_description_and_an_example(document: dict[str, Any]) -> None:
    schemas: dict[str, Any] = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    for name, schema in schemas.items():
        if name == "StyleDefaults":  # its fields are those of an order, which describes them
            continue
        for field, described in schema["properties"].items():
            assert described.get("description"), f"{name}.{field}"
            shown = "examples" in described or "const" in described
            assert shown or "$ref" in json.dumps(described), f"{name}.{field}"


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def refs(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [ref for value in node.values() for ref in refs(value)]
        return [ref for value in node for ref in refs(value)] if isinstance(node, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(refs(document)) <= known


async def test_operations_have_names_that_read_as_words(document: dict[str, Any]) -> None:
    """Generated clients make functions of them."""
    names = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+_[a-z]+", name) for name in names)


async def test_a_file_is_bytes_and_an_event_has_a_schema(document: dict[str, Any]) -> None:
    """A client that is generated decodes a picture as nothing else, and knows what `data` holds."""
    responses = document["paths"]["/output/{path}"]["get"]["responses"]
    for status in ("200", "206"):
        for content in responses[status]["content"].values():
            assert content["schema"] == {"type": "string", "format": "binary"}
    for path in ("/v1/events", "/v1/jobs/{job_id}/events"):
        stream = document["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"]
        kinds = {
            event["properties"]["event"]["const"]: event["properties"]["data"]["contentSchema"]
            for event in stream["itemSchema"]["oneOf"]
        }
        of_all = {"batch"} if path == "/v1/events" else set()
        assert set(kinds) == {"status", "progress", "output", "preview"} | of_all
        assert kinds["status"] == {"$ref": "#/components/schemas/JobStatusResponse"}


async def test_keys_are_declared_where_they_are_needed(
    transport: LocalTransport, tmp_path: Path, document: dict[str, Any]
) -> None:
    """And only by a server that wants them."""
    keys_of(tmp_path / "keys", "studio")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        with_keys = (await client.get("/openapi.json")).json()
    for path, operations in with_keys["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) == path.startswith("/v1/"), path
    assert "securitySchemes" not in document["components"]


async def test_what_has_a_default_need_not_be_sent(document: dict[str, Any]) -> None:
    """Generators of clients make a field optional if it is neither required nor has a declared default; and
    an order of a batch is one type, wherever it stands."""
    schemas = document["components"]["schemas"]
    for name in ("GenerateRequest", "SheetRequest", "BatchRequest", "BatchOrder", "LoraOrder"):
        fields = schemas[name]["properties"]
        assert not any("default" in field for field in fields.values()), name
        assert set(schemas[name].get("required", [])) < set(fields)
    assert schemas["GenerateRequest"]["properties"]["n"]["description"].endswith("Default: 1.")
    batch = json.dumps(schemas["BatchRequest"])
    assert "components/schemas/BatchOrder" in batch
    assert "components/schemas/BatchDefaults" in batch
    assert "negative_prompt" not in batch
