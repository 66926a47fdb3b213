"""What an operator reads is true: settings, metrics, and how a backup is made."""

from __future__ import annotations

import ast
import re

import yaml

from serve_app.config import Settings
from tests.documents import RUNNING, as_written, defaults
from tests.markdown import ROOT


def test_the_settings_are_those_there_are() -> None:
    fields = Settings.model_fields
    table = RUNNING.table("setting")
    assert table.names == set(fields)
    for row in table.rows:
        for name, said in zip(row[0].names, defaults(row[1], len(row[0].names)), strict=True):
            assert said == as_written(fields[name].default), name


def test_the_pools_are_such_as_are_taken() -> None:
    (fence,) = RUNNING.fences("yaml")
    settings = Settings.model_validate(yaml.safe_load(fence))
    assert [pool.models for pool in settings.pools.values()] == [
        ["sdxl_base"],
        ["dreamshaper"],
        ["sd15", "sd_turbo"],
    ]


def test_the_metrics_are_those_that_are_exported() -> None:
    """Ray puts `ray_` before a name and `_total` behind a counter's."""
    exported: dict[str, set[str]] = {}
    for part in ast.parse((ROOT / "serve_app/metrics.py").read_text()).body:
        made = [node for node in ast.walk(part) if isinstance(node, ast.Call)]
        shared = set(re.findall(r"keys = \('(\w+)',\)", ast.unparse(part)))
        for kind, name, keys in filter(None, map(metric_of, made)):
            end = "_total" if kind == "Counter" else ""
            exported[f"ray_{name}{end}"] = (keys | shared) - {"application"}
    rows = RUNNING.table("metric").rows
    assert {row[0].names[0]: set(row[1].names) for row in rows} == exported


def metric_of(call: ast.Call) -> tuple[str, str, set[str]] | None:
    """Kind, name, and the tags it has beside those of its class."""
    kind = ast.unparse(call.func)
    if kind not in ("Counter", "Gauge", "Histogram"):
        return None
    return (
        kind,
        ast.literal_eval(call.args[0]),
        set(re.findall(r"'(\w+)'", ast.unparse(call.args[-1]))),
    )
