"""assets models."""

from __future__ import annotations

import pytest

from serve_app.messages import PoolState
from tests.api.harness import Site
from tests.cli.harness import run


def test_the_models_of_a_server_are_listed(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models") == 0
    assert "tiny" in capsys.readouterr().out
    service.transport.states = [
        PoolState(pool="default", model="tiny", state="failed", reason="no node offers 1 GPU")
    ]
    assert run("models") == 0
    said = capsys.readouterr()
    assert "failed" in said.out
    assert "tiny: no node offers 1 GPU" in said.err
    service.transport.states = []
