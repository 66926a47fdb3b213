"""What the server says of itself: styles, models, capabilities, OpenAPI."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve_app import __version__
from tests.api.harness import ICON


async def test_styles_say_who_draws_them(client: httpx.AsyncClient) -> None:
    styles = {s["style_id"]: s for s in (await client.get("/v1/styles")).json()["results"]}
    assert list(styles) == ["none", "icon", "portrait"]
    assert styles["icon"]["drawable"]
    assert styles["icon"]["revision"] == ICON.revision
    assert styles["icon"]["defaults"]["steps"] == 6
    assert not styles["portrait"]["drawable"]
    assert styles["portrait"]["models"] == ["other"]


async def test_models_say_what_they_allow(client: httpx.AsyncClient) -> None:
    tiny, other = (await client.get("/v1/models")).json()["results"]
    assert (tiny["name"], tiny["active"], tiny["revision"]) == ("tiny", True, "tiny-weights")
    assert (other["name"], other["active"], other["revision"]) == ("other", False, None)
    assert tiny["sizes"] == [[64, 64], [64, 128]]
    assert tiny["schedulers"] == ["ddim", "euler"]
    assert "path" not in tiny


async def test_capabilities_hold_the_limits(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/capabilities")).json()
    assert (body["version"], body["model"]) == (__version__, "tiny")
    assert body["schedulers"] == ["ddim", "euler"]
    assert body["limits"]["images"] == 16
    assert body["limits"]["seed"] == 2**32 - 1


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/openapi.json")).json()


async def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """Summary, description, an answer with an example or schema, and every error as a problem."""
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert len(operations) == 14
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        responses = operation["responses"]
        assert {"400", "500", "default"} <= set(responses)
        for status, response in responses.items():
            assert response["description"]
            if status not in ("default", "200", "202", "204", "304"):
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert str(content["example"]["status"]) == status
            if status in ("429", "503"):
                assert "Retry-After" in response["headers"]
        for parameter in operation.get("parameters", []):
            assert parameter["description"]
            assert parameter["schema"]["examples"]


async def test_every_field_has_a_description_and_an_example(document: dict[str, Any]) -> None:
    schemas: dict[str, Any] = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    for name, schema in schemas.items():
        if name == "StyleDefaults":  # named as the fields of an order, which say what they are
            continue
        for field, said in schema["properties"].items():
            assert said.get("description"), f"{name}.{field}"
            shown = "examples" in said or "const" in said or "$ref" in json.dumps(said)
            assert shown, f"{name}.{field}"


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def refs(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [ref for value in node.values() for ref in refs(value)]
        return [ref for value in node for ref in refs(value)] if isinstance(node, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(refs(document)) <= known
