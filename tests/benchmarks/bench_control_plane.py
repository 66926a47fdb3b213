"""The service without its model, beside the app it replaces: polls, submits, jobs, and what each costs.

    python -m tests.benchmarks.bench_control_plane --out FOLDER               one round, two minutes
    python -m tests.benchmarks.bench_control_plane --out FOLDER --table       the medians of all rounds there

Both run at the same time, and take turns: so a machine that is slow for a minute is slow for both, and the
idle service's CPU is charged to the peer as well. Only ratios, and CPU per request or job, compare from day
to day.

Workload of one round: the peer is `tests/benchmarks/peer`; here the model is that of `null_host`, behind
HAProxy with an API key (`--proxy default`: Serve's own proxy, without one), 4 CPUs, 4 slots, 8 jobs in
flight. Orders have 2 steps, no guidance and a random seed. wrk sends with 16 connections:

1. nothing for 5 s; 2. polls of a job that is done; 3. 20 jobs one after another, from the order until SUCCESS
is seen; 4. 200 jobs in line when the drawing begins; 5. submits while the process that draws is suspended;
6. the drawing goes on, until what was ordered in 5 is done, or for 20 s; 7. submits while it goes on.

Needs `redis-server` and `wrk` (of Debian) and the extra `benchmark`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil

from serve_app.tools import own_ray
from tests.benchmarks.cpu import Cpu, Processes
from tests.benchmarks.load import load
from tests.benchmarks.peer.running import Peer
from tests.cluster.service import Service, haproxy, wait_until

KEY = "a key of this benchmark"
ORDER = {"prompt": "a sword", "style_id": "none"}
OURS = {"steps": 2, "guidance_scale": 1.0}
TITLES = {  # of processes, by what they do; the first that matches
    "ray::ServeReplica:assets:Ingress": "ingress",
    "ray::ServeReplica:assets:Renderer": "renderer",
    "ray::Registry": "registry",
    "ray::ProxyActor": "proxy",
    "ray::HAProxyManager": "proxy",
    "haproxy": "proxy",
    "ray::ServeController": "Ray",
    "ray::": "workers",
    "default_worker.py": "workers",  # one that has just started
    "/redis": "redis",
}
KINDS = ("api", "proxy", "ingress", "registry", "redis", "renderer", "worker", "workers", "Ray")


class Contender(Protocol):
    url: str
    headers: dict[str, str]
    order: dict[str, Any]

    def waiting(self) -> int:
        """Jobs that are not done."""
        ...

    def suspend(self) -> None: ...

    def resume(self) -> None: ...

    def processes(self) -> Processes: ...


class OldApp:
    headers: dict[str, str] = {}  # noqa: RUF012
    order: dict[str, Any] = {**ORDER, "seed": -1}  # noqa: RUF012

    def __init__(self, peer: Peer) -> None:
        self._peer, self.url = peer, peer.url
        self.waiting, self.suspend, self.resume = peer.waiting, peer.suspend, peer.resume
        self.processes = peer.processes


class Ours:
    def __init__(self, service: Service) -> None:
        self._service = service
        self.url, self.headers = f"http://127.0.0.1:{service.port}", service.headers
        self.order: dict[str, Any] = {**ORDER, **OURS, "seed": -1}

    def waiting(self) -> int:
        return self._service.registry("stats")["live"]

    def suspend(self) -> None:
        self._service.one("Renderer").suspend()

    def resume(self) -> None:
        self._service.one("Renderer").resume()

    def processes(self) -> Processes:
        found: Processes = {}
        for process in self._service.tree():
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            kind = next((kind for start, kind in TITLES.items() if start in title), "Ray")
            found.setdefault(kind, []).append(process)
        return found


class Round:
    """`figures`: by contender, by what was measured."""

    def __init__(self, contenders: dict[str, Contender], folder: Path) -> None:
        self._contenders, self._folder = contenders, folder
        self.figures: dict[str, dict[str, Any]] = {name: {} for name in contenders}

    def each(self, what: str, measure: Callable[[Contender], dict[str, Any]], times: int) -> None:
        """In turns. Of several times, the median of each figure."""
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in self._contenders}
        for _ in range(times):
            for name, contender in self._contenders.items():
                taken[name].append(measure(contender))
        for name, rows in taken.items():
            self.figures[name][what] = medians(rows)
            print(name, what, json.dumps(self.figures[name][what]), flush=True)

    def polls(self, one: Contender) -> dict[str, Any]:
        path = f"{one.url}/v1/jobs/{done_job(one)}"
        return self._load(one, path, None, 4)

    def submits(self, one: Contender) -> dict[str, Any]:
        return self._load(one, f"{one.url}/v1/generate", one.order, 4)

    def submits_while_drawing(self, one: Contender) -> dict[str, Any]:
        before, began = one.waiting(), time.monotonic()
        told = self.submits(one)
        seconds = time.monotonic() - began
        done = before + told.pop("requests") - one.waiting()
        return told | {"jobs_per_second": done / seconds}

    def alone(self, one: Contender) -> dict[str, Any]:
        with client(one) as http:
            took = sorted(seconds_of_one_job(http, one.order) for _ in range(20))
        return {"p50_ms": 1000 * took[10], "p90_ms": 1000 * took[18]}

    def drain_of(self, jobs: int) -> Callable[[Contender], dict[str, Any]]:
        def measure(one: Contender) -> dict[str, Any]:
            one.suspend()
            with client(one) as http:
                for _ in range(jobs):
                    submit(http, one.order)
            one.resume()
            return self.drain(one)

        return measure

    def drain(self, one: Contender) -> dict[str, Any]:
        """Jobs that end in so many seconds. What is in line was ordered before."""
        before, cpu = one.waiting(), Cpu(one.processes)
        began = time.monotonic()
        with cpu.measuring():
            while (left := one.waiting()) and time.monotonic() - began < 20:
                time.sleep(0.1)
        done = before - left
        return {
            "queued": before,
            "per_second": done / (time.monotonic() - began),
            "cpu_ms": {kind: 1000 * s / max(1, done) for kind, s in cpu.seconds().items()},
            "workers_started": cpu.started().get("workers", 0),
        }

    def idle(self, one: Contender) -> dict[str, Any]:
        """Cores in use, and memory (proportional set size), while nothing is asked."""
        cpu, began = Cpu(one.processes), time.monotonic()
        with cpu.measuring():
            time.sleep(5)
        seconds = time.monotonic() - began
        memory = sum(p.memory_full_info().pss for ps in one.processes().values() for p in ps)
        return {
            "cores": {kind: s / seconds for kind, s in cpu.seconds().items()},
            "memory_mb": memory / 2**20,
        }

    def _load(
        self, one: Contender, url: str, body: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        cpu = Cpu(one.processes)
        with cpu.measuring():
            found = load(url, seconds, headers=one.headers, body=body, folder=self._folder)
        per_request = {kind: 1000 * s / found.requests for kind, s in cpu.seconds().items()}
        return {**found._asdict(), "cpu_ms": per_request}


def client(one: Contender) -> httpx.Client:
    return httpx.Client(base_url=one.url, headers=one.headers, timeout=60)


def submit(http: httpx.Client, order: dict[str, Any]) -> str:
    reply = http.post("/v1/generate", json=order)
    assert reply.status_code == 202, reply.text
    return reply.json()["job_id"]


def seconds_of_one_job(http: httpx.Client, order: dict[str, Any]) -> float:
    """Asked again every 2 ms."""
    began = time.monotonic()
    path = f"/v1/jobs/{submit(http, order)}"
    while http.get(path).json()["status"] != "SUCCESS":
        time.sleep(0.002)
    return time.monotonic() - began


def done_job(one: Contender) -> str:
    with client(one) as http:
        path = f"/v1/jobs/{(job_id := submit(http, one.order))}"
        wait_until(lambda: http.get(path).json()["status"] == "SUCCESS", 60, "a job is done")
    return job_id


def run_round(out: Path, proxy: str) -> dict[str, Any]:
    folder = out / time.strftime("%H%M%S")
    folder.mkdir(parents=True)
    service, peer = service_behind(proxy, folder / "ours"), Peer(folder / "peer")
    ours: Contender = Ours(service)
    theirs: Contender = OldApp(peer)
    (folder / "peer").mkdir()
    try:
        peer.start()
        service.start()
        taken = Round({"ours": ours, "peer": theirs}, folder)
        taken.drain_of(24)(ours)  # every kind of process is there from now on
        taken.each("idle", taken.idle, 1)
        taken.each("polls", taken.polls, 2)
        taken.each("one job alone", taken.alone, 1)
        taken.each("drain of 200", taken.drain_of(200), 2)
        for contender in (ours, theirs):
            contender.suspend()
        taken.each("submits", taken.submits, 1)
        for name, contender in (("peer", theirs), ("ours", ours)):
            contender.resume()
            one = Round({name: contender}, folder)
            one.each("long drain", one.drain, 1)
            one.each("submits while drawing", one.submits_while_drawing, 1)
            taken.figures[name] |= one.figures[name]
            peer.forget_all()
    finally:
        peer.stop()
        service.stop()
    return taken.figures


def service_behind(proxy: str, folder: Path) -> Service:
    own_ray.prepare()  # as `assets run` starts Ray
    folder.mkdir(parents=True)
    settings: dict[str, Any] = {"autoscaling_interval_s": 5, "slots": 4}
    settings |= {"max_pending": 100_000, "model": "starter"}
    if proxy == "default":
        return Service(folder, settings, host="tests.benchmarks.null_host")
    keys = folder / "keys.txt"
    keys.write_text(f"studio:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    return Service(
        folder,
        settings | {"api_keys_file": str(keys)},
        host="tests.benchmarks.null_host",
        environment=haproxy(),
        headers={"Authorization": f"Bearer {KEY}"},
    )


# ---- the table ----


def medians(rows: list[Any]) -> Any:
    """Of numbers; of dicts, by key."""
    if isinstance(rows[0], dict):
        keys = dict.fromkeys(key for row in rows for key in row)
        return {key: medians([row[key] for row in rows if key in row]) for key in keys}
    return round(statistics.median(rows), 3)


def table(rounds: list[dict[str, Any]]) -> str:
    """Ratios are medians of the rounds' ratios, not ratios of medians."""
    lines = [f"{len(rounds)} rounds", "", "| | ours | peer | ratio |", "|---|---|---|---|"]
    for what, figure, shown in (
        ("polls", "per_second", "polls a second"),
        ("polls", "p50_ms", "... p50, ms"),
        ("polls", "p99_ms", "... p99, ms"),
        ("submits", "per_second", "submits a second, nothing drawn"),
        ("submits", "p50_ms", "... p50, ms"),
        ("submits", "p99_ms", "... p99, ms"),
        ("submits while drawing", "per_second", "submits a second while jobs are drawn"),
        ("submits while drawing", "p99_ms", "... p99, ms"),
        ("submits while drawing", "jobs_per_second", "... jobs a second meanwhile"),
        ("drain of 200", "per_second", "jobs a second, 200 in line"),
        ("long drain", "per_second", "jobs a second, a long line"),
        ("long drain", "queued", "... jobs in it"),
        ("drain of 200", "workers_started", "processes started, 200 in line"),
        ("long drain", "workers_started", "... a long line"),
        ("one job alone", "p50_ms", "one job alone, p50, ms"),
        ("one job alone", "p90_ms", "... p90, ms"),
        ("idle", "memory_mb", "memory when idle, MB"),
    ):
        pairs = [
            (r["ours"][what][figure], r["peer"][what][figure]) for r in rounds if what in r["ours"]
        ]
        if pairs:
            ours, peer = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratios = [a / b for a, b in pairs if b]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
            lines.append(f"| {shown} | {ours:.4g} | {peer:.4g} | {ratio} |")
    lines += ["", "| CPU, ms | " + " | ".join(KINDS) + " | sum |", "|---" * (len(KINDS) + 2) + "|"]
    for what in ("polls", "submits", "drain of 200", "long drain"):
        for name in ("ours", "peer"):
            lines.append(_cpu_line(f"{what}, {name}", rounds, name, what, "cpu_ms", 1))
    lines.append(
        _cpu_line("idle, ours (a thousandth of a core)", rounds, "ours", "idle", "cores", 1000)
    )
    return "\n".join(lines)


def _cpu_line(
    label: str, rounds: list[dict[str, Any]], name: str, what: str, figure: str, scale: float
) -> str:
    found = [r[name][what][figure] for r in rounds if what in r[name]]
    if not found:
        return f"| {label} |" + " |" * (len(KINDS) + 1)
    used = medians(found)
    cells = [f"{scale * used[kind]:.2f}" if used.get(kind) else "" for kind in KINDS]
    return f"| {label} | " + " | ".join(cells) + f" | {scale * sum(used.values()):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--proxy", choices=("haproxy", "default"), default="haproxy")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    kept = given.out / f"rounds-{given.proxy}.jsonl"
    if not given.table:
        figures = run_round(given.out, given.proxy)
        with kept.open("a") as file:
            file.write(json.dumps(figures) + "\n")
    print(table([json.loads(line) for line in kept.read_text().splitlines()]))


if __name__ == "__main__":
    main()
