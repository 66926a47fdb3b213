"""The methods of the registry that other processes may call: exactly those that somebody calls."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from serve_app.api.registry_client import RegistryClient
from serve_app.cluster.registry_actor import CALLABLE, FOR_INGRESSES, RegistryActor
from serve_app.jobs.registry import JobRegistry


def methods(of: type) -> dict[str, list[str]]:
    """Public method -> names of its parameters."""
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


def test_an_ingress_may_call_what_its_client_has() -> None:
    """Beside `readiness`, which asks Serve too."""
    assert methods(RegistryClient).keys() - {"readiness"} == set(FOR_INGRESSES)


def test_the_registry_has_every_method_that_may_be_called() -> None:
    assert methods(JobRegistry).keys() >= CALLABLE


@pytest.mark.parametrize("method", ["close", "start", "_take", "nothing"])
async def test_no_other_method_can_be_called(method: str) -> None:
    actor: Any = object.__new__(RegistryActor)
    with pytest.raises(ValueError, match=method):
        await actor.call(method)
