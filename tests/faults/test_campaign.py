"""A short campaign: every kind of fault at least once, the whole cluster included."""

from __future__ import annotations

from pathlib import Path

import pytest

from .campaign import Campaign, plan
from .faults import FAULTS
from .report import render


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_every_promise_holds_under_every_fault(tmp_path: Path) -> None:
    """No job is lost or doubled, the pixels are the same, no process, file or work is left over."""
    strikes = plan(seed=1, kills=7, cluster_kills=1)
    assert {strike.fault for strike in strikes} == FAULTS.keys()
    result = Campaign(tmp_path, seed=1).run(strikes)
    assert result.passed, render(result)
