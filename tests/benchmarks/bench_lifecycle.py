"""What a job's user sees: how soon a cancelled job frees the device, how true an ETA is, who gets what.

    python -m tests.benchmarks.bench_lifecycle --out FOLDER

Workload, on the whole service over HTTP, one renderer with the starter model: (1) 40 running jobs of 30
steps with guidance are cancelled one after another; the time runs from the HTTP call until the engine
holds nothing. (2) 120 mixed orders (70 % of 4 steps without guidance, 30 % of 20 steps with) come at
random, 70 % of what the service can do; each ETA told at the order is compared with when it was done,
beside the guess "as long as the mean of those before". (3) Client `many` orders 60 jobs at once, then
`few` orders 20, all alike: half of those that begin while both wait should be of `few`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from tests.cluster.service import Service, wait_until

SHORT = {"steps": 4, "guidance_scale": 1.0}
LONG = {"steps": 20, "guidance_scale": 4.0}
CONTENDED = 30  # starts during which both clients have jobs in line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cancels", type=int, default=40)
    parser.add_argument("--orders", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    service = Service(options.out / "service", {"slots": 4}).start()
    try:
        service.result(service.submit(prompt="a sword", **SHORT))
        rows = [
            *cancels(service, options.cancels),
            *etas(service, options.orders, random.Random(options.seed)),
            *shares(service),
        ]
    finally:
        service.stop()
    text = "\n".join(["| | |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows)])
    (options.out / "bench_lifecycle.md").write_text(text + "\n")
    print(text)


def cancels(service: Service, count: int) -> list[tuple[str, str]]:
    taken: list[float] = []
    for i in range(count):
        job_id = service.submit(prompt="a castle", steps=30, guidance_scale=4.0, seed=i)
        service.await_status(job_id, "STARTED")
        began = time.monotonic()
        assert service.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        wait_until(lambda: not any(s["live"] for s in service.renderers("stats")), 30)
        taken.append(time.monotonic() - began)
    (stats,) = service.renderers("stats")
    step = stats["costs_ms"]["128x128"]
    rows = step.get(2) or step["2"]
    return [
        (
            "cancel to free device, p50 / p95",
            f"{1000 * p(taken, 50):.0f} / {1000 * p(taken, 95):.0f} ms",
        ),
        ("one step with guidance", f"{rows:.0f} ms"),
    ]


def etas(service: Service, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Open loop: the next order does not wait for the last one."""
    solo = {name: solo_seconds(service, kind) for name, kind in (("s", SHORT), ("l", LONG))}
    rate = 0.7 / (0.7 * solo["s"] + 0.3 * solo["l"])
    said: list[tuple[str, float, float | None]] = []
    clock = threading.Event()
    for i in range(count):
        kind = SHORT if rng.random() < 0.7 else LONG
        reply = service.http.post(
            "/v1/generate",
            json={"prompt": f"a red sword {i}", "style_id": "none", "seed": i, **kind},
        ).json()
        said.append((reply["job_id"], time.monotonic(), reply["eta_seconds"]))
        clock.wait(rng.expovariate(rate))
    jobs = [(service.result(job_id), eta) for job_id, _, eta in said]
    came = [seconds_of(job) for job, _ in jobs]
    errors: list[float] = []
    naive: list[float] = []
    for i, (_, eta) in enumerate(jobs):
        if eta is not None and i >= 10:
            errors.append(abs(eta - came[i]))
            naive.append(abs(statistics.mean(came[:i]) - came[i]))
    registry = service.registry("stats")["eta_error"]["default"]
    return [
        ("jobs took, p50 / p95", f"{p(came, 50):.1f} / {p(came, 95):.1f} s"),
        ("first ETA off by, p50 / p95", f"{p(errors, 50):.2f} / {p(errors, 95):.2f} s"),
        ("the guess `mean so far` off by, p50 / p95", f"{p(naive, 50):.2f} / {p(naive, 95):.2f} s"),
        ("by the registry's own account, relative", str(registry)),
    ]


def shares(service: Service) -> list[tuple[str, str]]:
    clients = {order(service, "many", i): "many" for i in range(60)}
    clients |= {order(service, "few", 100 + i): "few" for i in range(20)}
    jobs = sorted(map(service.result, clients), key=lambda job: job["started_at"])
    began = [clients[job["job_id"]] for job in jobs]
    first = began.index("few")
    return [
        (
            "`many` had 60 in line before `few` ordered 20; begun before the first of `few`",
            f"{first} of 60",
        ),
        (
            f"of the next {CONTENDED} that began, those of `few`",
            str(began[first : first + CONTENDED].count("few")),
        ),
    ]


def order(service: Service, client: str, seed: int) -> str:
    body = {"prompt": "a shield", "style_id": "none", "seed": seed, **SHORT}
    reply = service.http.post("/v1/generate", json=body, headers={"X-Client-Id": client})
    return reply.json()["job_id"]


def solo_seconds(service: Service, kind: dict[str, Any]) -> float:
    jobs = [service.result(service.submit(prompt="a tree", seed=900 + i, **kind)) for i in range(3)]
    return statistics.median(job["metrics"]["execution_ms"] for job in jobs) / 1000


def seconds_of(job: dict[str, Any]) -> float:
    metrics = job["metrics"]
    return (metrics["queue_ms"] + metrics["execution_ms"]) / 1000


def p(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


if __name__ == "__main__":
    main()
