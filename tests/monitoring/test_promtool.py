"""Prometheus' own tool reads our rules, tries each alert, and parses every query of the dashboards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.markdown import ROOT
from tests.monitoring.test_names import expressions

pytestmark = pytest.mark.browser


def promtool(*args: str | Path) -> str:
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_right_and_each_comes_when_it_should() -> None:
    assert "11 rules found" in promtool("check", "rules", ROOT / "configs/prometheus/rules.yaml")
    assert "SUCCESS" in promtool("test", "rules", ROOT / "tests/monitoring/rules_test.yaml")


def test_every_query_is_promql(tmp_path: Path) -> None:
    """As rules that record it: Grafana puts in its variables before it asks."""
    filled = [
        query.replace("$__rate_interval", "5m").replace("$application", ".*")
        for query in expressions()
    ]
    recorded = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(filled)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    assert f"{len(filled)} rules found" in promtool("check", "rules", file)
