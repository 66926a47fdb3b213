"""assets models."""

from __future__ import annotations

import pytest

from tests.api.harness import Site
from tests.cli.harness import run


def test_the_models_of_a_server_are_listed(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models") == 0
    assert "tiny" in capsys.readouterr().out
