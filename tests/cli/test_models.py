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


@pytest.mark.usefixtures("service")
def test_the_words_of_a_model_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """All, or by a part of a name. A model without a vocabulary is an error that says so."""
    assert run("models", "words", "other") == 0
    assert "toadstool" in capsys.readouterr().out
    assert run("models", "words", "other", "sword") == 0
    said = capsys.readouterr().out
    assert "dagger" in said
    assert "toadstool" not in said
    assert run("models", "words", "other", "quark") == 1
    assert "nothing of that name" in capsys.readouterr().err
    assert "no vocabulary of 'tiny'" in str(run("models", "words", "tiny"))
