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
    """Nothing lost, nothing doubled, the same pixels, no orphan, no work for nobody, no leak."""
    steps = plan(seed=1, kills=7, cluster_kills=1)
    assert {step.fault for step in steps} == FAULTS.keys()
    result = Campaign(tmp_path, seed=1).run(steps)
    assert result.passed, render(result)
