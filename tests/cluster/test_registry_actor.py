"""The methods of the registry that other processes may call: exactly those that somebody calls."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from serve_app.api.registry_client import RegistryClient
from serve_app.cluster.registry_actor import CALLABLE, FOR_INGRESSES, RegistryActor, pools_in
from serve_app.jobs.registry import JobRegistry
from serve_app.messages import DeployedPool
from serve_app.params import DEFAULT_POOL


def methods(of: type) -> dict[str, list[str]]:
    """Public method -> names of its parameters."""
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


def test_an_ingress_may_call_what_its_client_has() -> None:
    """Beside `readiness` and `pools`, which ask Serve too."""
    assert methods(RegistryClient).keys() - {"readiness", "pools"} == set(FOR_INGRESSES)


def test_the_registry_has_every_method_that_may_be_called() -> None:
    assert methods(JobRegistry).keys() >= CALLABLE


def test_an_application_of_older_code_has_one_pool() -> None:
    """It may be deployed beside a registry that knows several: a newer registry stays."""
    older = {"model": "tiny", "model_revision": "1", "gpus": 0.5, "limits": {"max_in_flight": 8}}
    only = DeployedPool(model="tiny", model_revision="1", gpus=0.5, max_in_flight=8)
    assert pools_in(older) == {DEFAULT_POOL: only}
    assert pools_in({**older, "pools": {"a": only}}) == {"a": only}


@pytest.mark.parametrize("method", ["close", "start", "_take", "nothing"])
async def test_no_other_method_can_be_called(method: str) -> None:
    actor: Any = object.__new__(RegistryActor)
    with pytest.raises(ValueError, match=method):
        await actor.call(method)
