"""Four ways to serve one device, on the same Poisson traces, arms interleaved; then two over HTTP.

    python -m tests.benchmarks.bench_engine --out FOLDER          everything, hours
    python -m tests.benchmarks.bench_engine --out FOLDER --minutes 40 --arrivals 80 --arms a d b
    python -m tests.benchmarks.bench_engine --profile             one saturated second of the engine

Workload: open loop; a request's latency runs from its intended arrival to its PNG (over HTTP: to the
published file). `mixed`: 70 % of the orders have 4 steps and no guidance, 30 % have 30 steps and
guidance; `uniform`: 20 steps with guidance; `burst`: 64 mixed orders at once. Load 1.0 is what the plain
pipeline can just serve. Every prompt and seed differs, so nothing is reused but the
text of the empty negative prompt.

Every finished run is a line of FOLDER/runs.jsonl; the same command again goes on after the last one, with
the solo times and the cost table that were measured at first.
The process keeps to as many cores as it has torch threads, so that no arm wins by using more of the
machine; `--cores 2 --threads 1` shows what stages beside the step loop gain where a core is free.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from serve_app.engine import images
from serve_app.engine.costs import CostTable
from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.warm_up import probe, warm_up
from tests.benchmarks.arms import ARMS, Arm, StepLevel, call_pipeline
from tests.benchmarks.report import Report, Run
from tests.benchmarks.traces import Kind, Model, arrivals_of, draw_params, expected_seconds

ROOT = Path(__file__).resolve().parents[2]
TITLES = {
    "a": "plain pipeline, one at a time",
    "b": "request-level batches",
    "c": "step-level, FIFO, one kind per call",
    "d": "this engine",
    "http-a": "service over HTTP, plain pipeline, one at a time",
    "http-d": "service over HTTP, this engine",
}
TRACES = ("mixed-0.7", "mixed-1.1", "uniform-0.7", "burst-64")
# For estimates only: how much faster than (a) an arm gets through a queue.
SPEED = {"a": 1.0, "b": 1.4, "c": 1.4, "d": 1.6, "http-a": 0.8, "http-d": 1.2}
SERVICE_START = 60.0  # seconds


@dataclass(frozen=True)
class Setup:
    """Measured once, shared by every arm and by later parts of a run that was cut."""

    model: Model
    kinds: dict[str, Kind]
    costs: dict[int, float]  # rows -> seconds of a call
    decode: float  # seconds
    peak: float  # FLOP per second
    threads: int
    cores: int
    scale: float
    max_rows: int

    def cost_table(self) -> CostTable:
        return CostTable(self.model.size, self.costs, decode=self.decode)

    @classmethod
    def parsed(cls, text: dict[str, Any]) -> Setup:
        model, kinds, costs = (text.pop(name) for name in ("model", "kinds", "costs"))
        return cls(
            Model(model["name"], model["revision"], tuple(model["size"]), model["scheduler"]),
            {name: Kind(**kind) for name, kind in kinds.items()},
            {int(n): seconds for n, seconds in costs.items()},
            **text,
        )


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    cores = sorted(os.sched_getaffinity(0))
    own = cores[-options.cores :]
    os.sched_setaffinity(0, own)
    if options.profile:
        from tests.benchmarks.profile import profile

        print(profile(load_parts(options.model), options.max_rows))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    journal = options.out / "runs.jsonl"
    parts: ModelParts | None = None
    if (earlier := resumed(journal, options)) is None:
        parts = load_parts(options.model)
        earlier = measured(parts, options, journal), []
    setup, runs = earlier
    print("c(n) in ms:", {n: round(1000 * s, 1) for n, s in setup.costs.items()})
    print("solo seconds:", {name: round(kind.solo, 4) for name, kind in setup.kinds.items()})
    done = {run.key for run in runs}
    left = [p for p in plan(options) if p.key(options) not in done]
    estimate = {p: p.seconds(setup, options.arrivals) for p in left}
    print(f"{len(done)} runs are done; {len(left)} left: {sum(estimate.values()) / 60:.0f} minutes")
    ends = time.monotonic() + options.minutes * 60
    if any(not planned.arm.startswith("http") for planned in left):
        parts = parts or load_parts(options.model)
        warm(parts, setup)
    for number, planned in enumerate(left, 1):
        if time.monotonic() + estimate[planned] > ends:
            print(f"skipped, would end after {options.minutes:.0f} minutes: {planned}", flush=True)
            continue
        if planned.arm.startswith("http"):
            os.sched_setaffinity(0, cores)  # the service may use the whole machine
            run = play_http(planned, setup, options)
            os.sched_setaffinity(0, own)
        else:
            assert parts is not None
            run = asyncio.run(play(planned, parts, setup, options.arrivals))
        runs.append(run)
        with journal.open("a") as file:
            file.write(json.dumps({"run": asdict(run)}) + "\n")
        rest = sum(estimate[p] for p in left[number:])
        print(f"{line(run)}  {number}/{len(left)}, {rest / 60:.0f} minutes left", flush=True)
    if runs:
        report = Report(runs, setup.kinds, TITLES, setup.peak, setup.max_rows, heading(setup))
        report.write(options.out)
        print(report.markdown())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="starter", help="`starter`, or `tiny` (random weights)")
    parser.add_argument("--arrivals", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--traces", nargs="+", default=list(TRACES))
    parser.add_argument("--threads", type=int, default=1, help="of torch, per call")
    parser.add_argument("--cores", type=int, help="to keep to; default: as many as threads")
    parser.add_argument("--scale", type=float, default=1.0, help="of the step counts")
    parser.add_argument("--max-rows", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="skip what is too long")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "benchmarks")
    parser.add_argument("--profile", action="store_true", help="where one saturated second goes")
    options = parser.parse_args()
    options.cores = options.cores or options.threads
    return options


# ---- what to run, in which order ----


@dataclass(frozen=True)
class Planned:
    trace: str
    seed: int
    arm: str

    def key(self, options: argparse.Namespace) -> tuple[str, int, str, int]:
        return self.trace, self.seed, self.arm, self.count(options.arrivals)

    def count(self, arrivals: int) -> int:
        return int(self.trace.partition("-")[2]) if self.trace.startswith("burst") else arrivals

    def seconds(self, setup: Setup, arrivals: int) -> float:
        trace = arrivals_of(self.trace, self.seed, setup.model, setup.kinds, arrivals)
        start = SERVICE_START if self.arm.startswith("http") else 1.0
        return start + expected_seconds(trace, SPEED[self.arm])


def plan(options: argparse.Namespace) -> list[Planned]:
    """Trace by trace, and seed by seed with the arms that are compared right after each other, every second
    seed in reverse: a machine may be slower in an hour than now."""
    beside = [(t, ("a", "d", "b", "c")) for t in options.traces]
    over_http = [(t, ("http-a", "http-d")) for t in options.traces]
    return [
        Planned(trace, seed, arm)
        for trace, arms in (*beside, *over_http)
        for i, seed in enumerate(options.seeds)
        for arm in (arms if i % 2 == 0 else arms[::-1])
        if arm in options.arms
    ]


def resumed(journal: Path, options: argparse.Namespace) -> tuple[Setup, list[Run]] | None:
    """What an earlier part left. Raises SystemExit if that was another workload."""
    if not journal.exists():
        return None
    first, *others = (json.loads(text) for text in journal.read_text().splitlines() if text)
    setup = Setup.parsed(first["setup"])
    for name in ("threads", "cores", "scale", "max_rows"):
        if getattr(setup, name) != getattr(options, name):
            sys.exit(f"{journal} was made with another {name}; choose another --out")
    if setup.model.name != options.model:
        sys.exit(f"{journal} was made with model {setup.model.name}; choose another --out")
    return setup, [Run(**other["run"]) for other in others]


# ---- measured once ----


def load_parts(model: str) -> ModelParts:
    if model == "tiny":
        from tests.engine import tiny

        return tiny.parts(tiny.pipeline())
    from serve_app.catalog.models import load_models

    return load(load_models(ROOT / "configs" / "models.yaml")[model], ROOT)


def measured(parts: ModelParts, options: argparse.Namespace, journal: Path) -> Setup:
    costs = warm_up(ModelRunner(parts), options.max_rows).costs
    size = f"{costs.native[0]}x{costs.native[1]}"
    model = Model(parts.spec.name, parts.revision, costs.native, parts.spec.schedulers[0])
    kinds = [
        Kind(name, max(1, round(steps * options.scale)), guidance)
        for name, steps, guidance in (("short", 4, 1.0), ("long", 30, 5.0), ("even", 20, 5.0))
    ]
    setup = Setup(
        model,
        {kind.name: solo(parts, model, kind) for kind in kinds},
        {rows: ms / 1000 for rows, ms in costs.as_dict()[size].items()},
        costs.decode_seconds(costs.native),
        peak_flops(),
        options.threads,
        options.cores,
        options.scale,
        options.max_rows,
    )
    journal.write_text(json.dumps({"setup": asdict(setup)}) + "\n")
    return setup


def solo(parts: ModelParts, model: Model, kind: Kind) -> Kind:
    """The kind with its cost in the plain pipeline and its PNG, as every arm has to make one: the median of
    seven."""
    params = draw_params(model, kind, random.Random(0))
    with FlopCounterMode(display=False) as counter:
        call_pipeline(parts, [params])
    seconds: list[float] = []
    for _ in range(7):
        began = time.perf_counter()
        images.png(call_pipeline(parts, [params])[0])
        seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds)
    return Kind(kind.name, kind.steps, kind.guidance_scale, middle, counter.get_total_flops())


def peak_flops() -> float:
    """The best a large fp32 matrix product reaches on these threads."""
    side = 1024
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def warm(parts: ModelParts, setup: Setup) -> None:
    """Every row count once: torch builds kernels at first use, which must not count for the first arm."""
    runner = ModelRunner(parts)
    for rows in range(1, setup.max_rows + 1):
        probe(runner, rows)()
    for count in (1, 2, 4, 8, 16):
        params = [
            draw_params(setup.model, setup.kinds["short"], random.Random(i)) for i in range(count)
        ]
        call_pipeline(parts, params)


# ---- one run ----


async def play(planned: Planned, parts: ModelParts, setup: Setup, arrivals: int) -> Run:
    trace = arrivals_of(planned.trace, planned.seed, setup.model, setup.kinds, arrivals)
    arm: Arm = ARMS[planned.arm](parts, setup.cost_table(), setup.max_rows)
    cpu, began = time.process_time(), time.perf_counter()

    async def one(number: int) -> float:
        # The clock of the open loop: nothing but time brings the next arrival.
        await asyncio.sleep(max(0.0, began + trace[number].at - time.perf_counter()))
        await arm.draw(trace[number].params, number)
        return time.perf_counter() - (began + trace[number].at)

    late = await asyncio.gather(*(one(i) for i in range(len(trace))))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    rows = arm.engine.stats()["rows_per_call"] if isinstance(arm, StepLevel) else None
    await arm.close()
    return Run(
        planned.trace,
        planned.seed,
        planned.arm,
        len(trace),
        list(late),
        [a.kind.name for a in trace],
        trace[-1].at,
        wall,
        cpu,
        rows,
    )


def play_http(planned: Planned, setup: Setup, options: argparse.Namespace) -> Run:
    """The same arrivals through a whole service, started for this run."""
    from tests.benchmarks.http_arms import HttpService

    trace = arrivals_of(planned.trace, planned.seed, setup.model, setup.kinds, options.arrivals)
    folder = options.out / "http" / f"{planned.trace}-{planned.seed}-{planned.arm}-{os.getpid()}"
    service = HttpService(planned.arm, folder, setup.model.name, options.threads)

    async def serve_all() -> tuple[list[float], float]:
        began = time.time()

        async def one(number: int) -> float:
            await asyncio.sleep(max(0.0, began + trace[number].at - time.time()))
            return await service.draw(trace[number].params, number) - (began + trace[number].at)

        late = await asyncio.gather(*(one(i) for i in range(len(trace))))
        return list(late), max(a.at + x for a, x in zip(trace, late, strict=True))

    try:
        service.start()
        cpu = service.cpu_seconds()
        late, wall = asyncio.run(serve_all())
        cpu = service.cpu_seconds() - cpu
    finally:
        service.stop()
    names = [a.kind.name for a in trace]
    last = trace[-1].at
    return Run(planned.trace, planned.seed, planned.arm, len(trace), late, names, last, wall, cpu)


# ---- words ----


def heading(setup: Setup) -> str:
    return (
        f"Model {setup.model.name}, {setup.threads} thread(s), {setup.cores} core(s), "
        f"steps x {setup.scale:g}, "
        f"{setup.peak / 1e9:.0f} GFLOP/s peak. Solo seconds: "
        + ", ".join(f"{name} {kind.solo:.3f}" for name, kind in setup.kinds.items())
        + ". c(n) in ms: "
        + ", ".join(f"{n}: {1000 * seconds:.1f}" for n, seconds in setup.costs.items())
        + f"; decode {1000 * setup.decode:.1f}."
    )


def line(run: Run) -> str:
    late = sorted(run.latencies)
    return (
        f"{run.trace:12} seed {run.seed} ({run.arm}) {run.arrivals / run.wall:6.2f} img/s  "
        f"p50 {late[len(late) // 2]:7.3f}  p95 {late[int(0.95 * len(late))]:7.3f}  "
        f"cpu {run.cpu / run.wall:4.2f}"
    )


if __name__ == "__main__":
    main()
