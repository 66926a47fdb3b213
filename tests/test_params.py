"""GenerationParams: an order that cannot be read is told by its fields, and never by its words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from serve_app.api.replies import AsOrdered, ResolvedReply
from serve_app.params import GenerationParams
from tests.factories import params


@pytest.mark.parametrize("model", [GenerationParams, AsOrdered, ResolvedReply])
@pytest.mark.parametrize(
    "change", [{"prompt": None}, {"prompt": ["secret plan"]}, {"negative_prompt": 1}]
)
def test_no_prompt_is_in_an_error(model: type[BaseModel], change: dict[str, Any]) -> None:
    """Errors reach logs, where everybody who operates the service reads them."""
    broken = params(prompt="secret plan", subject="secret plan").model_dump() | change
    if broken["prompt"] is None:
        del broken["prompt"]
    with pytest.raises(ValidationError) as raised:
        model.model_validate(broken)
    assert "prompt" in str(raised.value)
    assert "secret" not in str(raised.value)
