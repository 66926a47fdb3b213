"""grafana: writes the dashboards of configs/grafana, which Grafana imports as they are.

    python -m serve_app.tools.grafana

Knows which panels there are; what the metrics mean is told in configs/README.md, Watching it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from serve_app.config import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "configs" / "grafana"
SCHEMA = 39  # of Grafana 11
ACROSS, HIGH, WIDE = 2, 8, 12  # panels side by side; grid units of one, of 24 across


class Panel(NamedTuple):
    """`unit`: one of Grafana's. `queries`: PromQL, and the legend of its lines."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""


OURS = '{application=~"$application"}'
RATE = "[$__rate_interval]"


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{OURS}{RATE})))",
            f"p{q * 100:g}",
        )
        for q in (0.5, 0.95)
    )


DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "service": (
        "Assets: the service",
        (
            Panel(
                "Jobs",
                "short",
                (
                    (f"sum(ray_assets_queue_depth{OURS})", "waiting"),
                    (f"sum(ray_assets_jobs_in_flight{OURS})", "in flight"),
                ),
            ),
            Panel(
                "Ended, a minute",
                "short",
                (
                    (
                        f"60 * sum by (state) (rate(ray_assets_jobs_finished_total{OURS}{RATE}))",
                        "{{state}}",
                    ),
                ),
            ),
            Panel("From order to start", "s", _quantiles("ray_assets_job_queue_seconds")),
            Panel("From start to end", "s", _quantiles("ray_assets_job_run_seconds")),
            Panel(
                "The oldest that waits",
                "s",
                ((f"max(ray_assets_oldest_waiting_seconds{OURS})", "age"),),
            ),
            Panel(
                "Nothing is launched",
                "short",
                ((f"max by (reason) (ray_assets_launches_paused{OURS})", "{{reason}}"),),
                "1 while the reason holds.",
            ),
            Panel(
                "Requests a second",
                "reqps",
                (
                    (f"sum(rate(ray_serve_num_http_requests_total{RATE}))", "all"),
                    (
                        f"sum by (error_code) (rate(ray_serve_num_http_error_requests_total{RATE}))",
                        "{{error_code}}",
                    ),
                ),
            ),
            Panel(
                "Registry: lag and commits",
                "s",
                (
                    (f"max(ray_assets_registry_lag_seconds{OURS})", "its loop is late by"),
                    (f"max(ray_assets_store_commit_seconds{OURS})", "slowest commit"),
                ),
            ),
            Panel(
                "Room on the disks",
                "bytes",
                ((f"min by (disk) (ray_assets_disk_free_bytes{OURS})", "{{disk}}"),),
            ),
            Panel("How far the first ETA was off", "s", _quantiles("ray_assets_eta_error_seconds")),
        ),
    ),
    "device": (
        "Assets: renderers and GPUs",
        (
            Panel(
                "Images that an engine holds",
                "short",
                (("sum by (model) (ray_assets_engine_live_requests)", "{{model}}"),),
            ),
            Panel(
                "Denoising evaluations a second",
                "short",
                (
                    (
                        f"sum by (model) (rate(ray_assets_denoising_steps_total{RATE}))",
                        "{{model}}",
                    ),
                ),
            ),
            Panel(
                "From admission to the image",
                "s",
                tuple(
                    (
                        f"histogram_quantile({q}, sum by (le, model) "
                        f"(rate(ray_assets_render_seconds_bucket{RATE})))",
                        f"{{{{model}}}} p{q * 100:g}",
                    )
                    for q in (0.5, 0.95)
                ),
            ),
            Panel(
                "Attempts lost, a minute",
                "short",
                (
                    (
                        f"60 * sum by (reason) (rate(ray_assets_job_retries_total{OURS}{RATE}))",
                        "{{reason}}",
                    ),
                ),
            ),
            Panel(
                "GPU in use",
                "percent",
                (
                    (
                        "avg by (instance, GpuIndex) (ray_node_gpus_utilization)",
                        "{{instance}} {{GpuIndex}}",
                    ),
                ),
            ),
            Panel(
                "GPU memory",
                "decmbytes",
                (
                    (
                        "sum by (instance, GpuIndex) (ray_node_gram_used)",
                        "{{instance}} {{GpuIndex}}",
                    ),
                ),
            ),
        ),
    ),
    "fairness": (
        "Assets: who gets the devices",
        (
            Panel(
                "Device seconds of each client, a minute",
                "s",
                (
                    (
                        "60 * sum by (client) "
                        f"(rate(ray_assets_client_device_seconds_total{OURS}{RATE}))",
                        "{{client}}",
                    ),
                ),
            ),
            Panel(
                "Share of the last day",
                "percentunit",
                (
                    (
                        f"sum by (client) (increase(ray_assets_client_device_seconds_total{OURS}[1d]))"
                        " / ignoring (client) group_left "
                        f"sum(increase(ray_assets_client_device_seconds_total{OURS}[1d]))",
                        "{{client}}",
                    ),
                ),
            ),
        ),
    ),
}


def dashboard(name: str) -> dict[str, Any]:
    """As Grafana's import takes it: the data source is asked for."""
    title, panels = DASHBOARDS[name]
    return {
        "id": None,
        "uid": f"assets-{name}",
        "title": title,
        "tags": ["assets"],
        "schemaVersion": SCHEMA,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "application",
                    "type": "query",
                    "datasource": _source(),
                    "query": "label_values(ray_assets_queue_depth, application)",
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": [_panel(i, panel) for i, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, ACROSS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _source(),
        "gridPos": {"x": column * WIDE, "y": row * HIGH, "w": WIDE, "h": HIGH},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + i), "expr": expr, "legendFormat": legend, "datasource": _source()}
            for i, (expr, legend) in enumerate(panel.queries)
        ],
    }


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}


def write(folder: Path = FOLDER, names: Sequence[str] = tuple(DASHBOARDS)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = json.dumps(dashboard(name), indent=1) + "\n"
        (folder / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    write()
