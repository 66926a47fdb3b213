"""Four ways to serve one device, on the same Poisson traces, in one process, arms interleaved.

    python -m tests.benchmarks.bench_engine --out tests/benchmarks/results

Workload: open loop; a request's latency runs from its intended arrival to its PNG. `mixed`: 70 % of
the orders have 4 steps and no guidance, 30 % have 30 steps and guidance; `uniform`: 20 steps with
guidance; `burst`: 64 mixed orders at once. Load 1.0 is what the plain pipeline can just serve.
Every prompt and seed differs, so nothing is reused. Knows nothing of HTTP or Ray.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from serve_app.engine.costs import CostTable
from serve_app.engine.loading import ModelParts, load
from serve_app.engine.model_runner import ModelRunner
from serve_app.params import GenerationParams
from tests.benchmarks.arms import ARMS, TITLES, Arm, StepLevel, call_pipeline

ROOT = Path(__file__).resolve().parents[2]
SLO = 5.0  # x solo time
WORDS = (
    *("red", "blue", "gold", "iron", "magic", "old", "tiny", "round"),
    *("sword", "shield", "potion", "key", "gem", "coin", "apple", "ring"),
)


@dataclass(frozen=True)
class Kind:
    """A class of orders and what one costs alone."""

    name: str
    steps: int
    guidance_scale: float
    solo: float = 0.0  # seconds, plain pipeline
    flop: float = 0.0


@dataclass(frozen=True)
class Arrival:
    at: float
    kind: Kind
    params: GenerationParams


@dataclass
class Run:
    """One arm on one trace."""

    arm: str
    trace: str
    seed: int
    latencies: list[float]
    wall: float
    cpu: float
    rows_per_call: float | None
    kinds: list[str] = field(default_factory=list[str])


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    parts = load_parts(options.model)
    runner = ModelRunner(parts)
    costs = runner.warm_up()
    kinds = {
        "short": Kind("short", scaled(4, options.scale), 1.0),
        "long": Kind("long", scaled(30, options.scale), 5.0),
        "even": Kind("even", scaled(20, options.scale), 5.0),
    }
    kinds = {name: measured(parts, kind) for name, kind in kinds.items()}
    print("c(n) in ms:", costs.as_dict())
    print("solo seconds:", {name: round(kind.solo, 4) for name, kind in kinds.items()})
    peak = peak_flops()
    runs: list[Run] = []
    for seed in range(options.seeds):
        for trace in options.traces:
            order = options.arms if seed % 2 == 0 else options.arms[::-1]
            for arm in order:
                run = asyncio.run(play(arm, trace, seed, parts, costs, kinds, options))
                runs.append(run)
                print(line(run), flush=True)
        write(runs, kinds, peak, options)  # after every seed: a long run may be cut short
    print((options.out / "bench_engine.md").read_text())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="starter", help="`starter`, or `tiny` (random weights)")
    parser.add_argument("--arrivals", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the step counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-rows", type=int, default=16)
    parser.add_argument("--arms", type=list, default=list(ARMS), help="e.g. abcd")
    parser.add_argument(
        "--traces", nargs="+", default=["mixed-0.7", "mixed-1.1", "uniform-0.7", "burst-64"]
    )
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "benchmarks")
    return parser.parse_args()


def scaled(steps: int, scale: float) -> int:
    return max(1, round(steps * scale))


def load_parts(model: str) -> ModelParts:
    if model == "tiny":
        from tests.engine import tiny

        return tiny.parts(tiny.pipeline())
    from serve_app.models import load_models

    parts = load(load_models(ROOT / "configs" / "models.yaml")[model], ROOT)
    parts.pipe.set_progress_bar_config(disable=True)
    return parts


# ---- traces ----


def order(parts: ModelParts, kind: Kind, rng: random.Random) -> GenerationParams:
    width, height = parts.spec.native_size
    return GenerationParams(
        prompt=" ".join(rng.choices(WORDS, k=4)),
        seed=rng.randrange(2**31),
        width=width,
        height=height,
        steps=kind.steps,
        guidance_scale=kind.guidance_scale,
        scheduler=parts.spec.schedulers[0],
        model=parts.spec.name,
        model_revision=parts.revision,
    )


def arrivals_of(
    trace: str, seed: int, parts: ModelParts, kinds: dict[str, Kind], count: int
) -> list[Arrival]:
    """`mixed-0.7`, `uniform-1.1`: Poisson at that load. `burst-64`: that many at once."""
    shape, _, amount = trace.partition("-")
    rng = random.Random(f"{shape} {seed}")
    mix = [kinds["even"]] if shape == "uniform" else [kinds["short"]] * 7 + [kinds["long"]] * 3
    mean_solo = sum(kind.solo for kind in mix) / len(mix)
    rate = float("inf") if shape == "burst" else float(amount) / mean_solo
    now = 0.0
    arrivals: list[Arrival] = []
    for _ in range(int(amount) if shape == "burst" else count):
        kind = rng.choice(mix)
        now += 0.0 if shape == "burst" else rng.expovariate(rate)
        arrivals.append(Arrival(now, kind, order(parts, kind, rng)))
    return arrivals


async def play(
    name: str,
    trace: str,
    seed: int,
    parts: ModelParts,
    costs: CostTable,
    kinds: dict[str, Kind],
    options: argparse.Namespace,
) -> Run:
    arrivals = arrivals_of(trace, seed, parts, kinds, options.arrivals)
    arm: Arm = ARMS[name](parts, CostTable(costs.native, known(costs)), options.max_rows)
    cpu, began = time.process_time(), time.perf_counter()

    async def one(number: int, arrival: Arrival) -> float:
        await asyncio.sleep(max(0.0, began + arrival.at - time.perf_counter()))
        await arm.draw(arrival.params, number)
        return time.perf_counter() - (began + arrival.at)

    latencies = await asyncio.gather(*(one(i, arrival) for i, arrival in enumerate(arrivals)))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    rows = None
    if isinstance(arm, StepLevel):
        rows = arm.engine.stats()["rows_per_call"]
    await arm.close()
    return Run(name, trace, seed, list(latencies), wall, cpu, rows, [a.kind.name for a in arrivals])


def known(costs: CostTable) -> dict[int, float]:
    size = f"{costs.native[0]}x{costs.native[1]}"
    return {rows: ms / 1000 for rows, ms in costs.as_dict()[size].items()}


# ---- measures ----


def measured(parts: ModelParts, kind: Kind) -> Kind:
    params = order(parts, kind, random.Random(0))
    with FlopCounterMode(display=False) as counter:
        call_pipeline(parts, [params])
    seconds: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        call_pipeline(parts, [params])
        seconds.append(time.perf_counter() - began)
    return Kind(kind.name, kind.steps, kind.guidance_scale, min(seconds), counter.get_total_flops())


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


def numbers(runs: Sequence[Run], kinds: dict[str, Kind], peak: float) -> dict[str, float | None]:
    """The row of one arm on one trace, over all seeds."""
    pairs = [(x, kinds[k]) for run in runs for x, k in zip(run.latencies, run.kinds, strict=True)]
    all_of = np.array([x for x, _ in pairs])
    short = np.array([x for x, kind in pairs if kind.name == "short"])
    wall = sum(run.wall for run in runs)
    rows = [run.rows_per_call for run in runs if run.rows_per_call]
    return {
        "images_per_s": len(pairs) / wall,
        "p50": float(np.percentile(all_of, 50)),
        "p95": float(np.percentile(all_of, 95)),
        "p99": float(np.percentile(all_of, 99)),
        "short_p95": float(np.percentile(short, 95)) if len(short) else None,
        "within_5x_solo": float(np.mean([x <= SLO * kind.solo for x, kind in pairs])),
        "rows_per_call": sum(rows) / len(rows) if rows else None,
        "cpu_s_per_image": sum(run.cpu for run in runs) / len(pairs),
        "mfu": sum(kind.flop for _, kind in pairs) / wall / peak,
    }


def p50(latencies: Any, wall: Any, short: Any) -> float:
    return float(np.median(latencies))


def short_p95(latencies: Any, wall: Any, short: Any) -> float:
    return float(np.percentile(latencies[short], 95)) if short.any() else float("nan")


def seconds_per_image(latencies: Any, wall: Any, short: Any) -> float:
    return wall / len(latencies)


RATIOS: dict[str, Callable[[Any, Any, Any], float]] = {
    "p50": p50,
    "short p95": short_p95,
    "throughput": seconds_per_image,
}


def interval(
    base: Sequence[Run], ours: Sequence[Run], value: Callable[[Any, Any, Any], float]
) -> tuple[float, float, float]:
    """How many times better `ours` is: ratio of the medians over seeds, with a 95 % interval.

    Hierarchical bootstrap: seeds are drawn again, and within a seed its arrivals, the same for both
    arms. Time per image is a whole run's, so for throughput only the seeds are drawn again.
    """
    rng = np.random.default_rng(0)
    pairs = [(a, next(o for o in ours if o.seed == a.seed)) for a in base]
    arrays = [[np.array(run.latencies) for run in pair] for pair in pairs]
    short = [np.array([kind == "short" for kind in pair[0].kinds]) for pair in pairs]

    def ratio(drawn: Sequence[tuple[int, Any]]) -> float:
        values = [
            [
                value(latencies[picks], run.wall, short[i][picks])
                for run, latencies in zip(pairs[i], arrays[i], strict=True)
            ]
            for i, picks in drawn
        ]
        a, b = np.nanmedian(np.array(values), axis=0)
        return float(a / b)

    point = ratio([(i, np.arange(len(short[i]))) for i in range(len(pairs))])
    samples = [
        ratio(
            [
                (i, rng.integers(0, len(short[i]), len(short[i])))
                for i in rng.integers(0, len(pairs), len(pairs))
            ]
        )
        for _ in range(500)
    ]
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return point, float(low), float(high)


# ---- report ----


def line(run: Run) -> str:
    middle, late = np.percentile(run.latencies, [50, 95])
    return (
        f"{run.trace:12} seed {run.seed} ({run.arm}) {len(run.latencies) / run.wall:6.2f} img/s  "
        f"p50 {middle:7.3f}  p95 {late:7.3f}  cpu {run.cpu / run.wall:4.2f}"
    )


def write(
    runs: list[Run], kinds: dict[str, Kind], peak: float, options: argparse.Namespace
) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    text = [f"model {options.model}, {options.arrivals} arrivals, seeds: {1 + runs[-1].seed},"]
    text += [
        f"steps x {options.scale}, {options.threads} threads, {peak / 1e9:.0f} GFLOP/s peak",
        "",
    ]
    for trace in options.traces:
        rows = {arm: [r for r in runs if r.arm == arm and r.trace == trace] for arm in options.arms}
        table = {arm: numbers(rows[arm], kinds, peak) for arm in options.arms}
        names = list(next(iter(table.values())))
        text += [f"### {trace}", "", "| arm | " + " | ".join(names) + " |"]
        text += ["|---" * (len(names) + 1) + "|"]
        for arm, row in table.items():
            cells = ["" if row[n] is None else f"{row[n]:.3g}" for n in names]
            text += [f"| ({arm}) {TITLES[arm]} | " + " | ".join(cells) + " |"]
        text += [""]
        for base in [arm for arm in options.arms if arm != "d" and "d" in options.arms]:
            for name, value in RATIOS.items():
                if name == "short p95" and not trace.startswith(("mixed", "burst")):
                    continue
                point, low, high = interval(rows[base], rows["d"], value)
                text += [f"- (d) against ({base}), {name}: {point:.2f}x [{low:.2f}, {high:.2f}]"]
        text += [""]
    (options.out / "bench_engine.md").write_text("\n".join(text))
    (options.out / "bench_engine.json").write_text(json.dumps([asdict(run) for run in runs]))
    plot(runs, options)


def plot(runs: list[Run], options: argparse.Namespace) -> None:
    """Share of the orders that are done after a given latency, one panel per trace."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(options.traces), figsize=(4 * len(options.traces), 3.2), squeeze=False
    )
    for panel, trace in zip(panels[0], options.traces, strict=True):
        for arm in options.arms:
            late = np.sort(
                np.concatenate(
                    [r.latencies for r in runs if r.arm == arm and r.trace == trace] or [[]]
                )
            )
            panel.plot(late, np.linspace(0, 1, len(late)), label=f"({arm}) {TITLES[arm]}")
        panel.set(xscale="log", title=trace, xlabel="latency, s", ylabel="share done")
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(options.out / "bench_engine.png", dpi=130)


if __name__ == "__main__":
    main()
