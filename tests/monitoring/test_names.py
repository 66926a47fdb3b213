"""What watches the service names only what the service reports, and every alert says what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from serve_app.tools.grafana import DASHBOARDS, FOLDER, dashboard
from tests.documents import RUNNING
from tests.markdown import ROOT

OTHERS = {
    "ray_node_gpus_utilization",
    "ray_node_gram_used",
    "ray_serve_num_http_requests_total",
    "ray_serve_num_http_error_requests_total",
}
"""Of Ray itself."""


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((ROOT / "configs/prometheus/rules.yaml").read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Every query of an alert or a panel."""
    panels = [panel for _, panels in DASHBOARDS.values() for panel in panels]
    return [rule["expr"] for rule in rules()] + [q for panel in panels for q, _ in panel.queries]


def metrics_of(text: str) -> set[str]:
    return {re.sub("_bucket$", "", name) for name in re.findall(r"\bray_\w+", text)}


def test_a_metric_that_is_watched_is_one_that_is_told_of() -> None:
    documented = {row[0].text for row in RUNNING.table("metric").rows}
    named = set[str]().union(*map(metrics_of, expressions()))
    assert named - OTHERS <= documented
    assert named >= OTHERS, "none of them is left over"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_what_its_tool_writes(name: str) -> None:
    """`python -m serve_app.tools.grafana` writes them anew."""
    assert json.loads((FOLDER / f"{name}.json").read_text()) == dashboard(name)


def test_there_is_no_other_dashboard() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == DASHBOARDS.keys()


def test_an_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "warn"), rule["alert"]
        assert {"summary", "runbook"} == rule["annotations"].keys(), rule["alert"]
