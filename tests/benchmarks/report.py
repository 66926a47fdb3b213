"""From finished runs to a table, ratios with their intervals, and a plot.

Knows numbers and files; nothing of how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.traces import Kind

SLO = 5.0  # x solo time
DRAWS = 1000  # of the bootstrap
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Run:
    """One arm on one trace. Latencies in seconds from the intended arrival, in order of arrival."""

    trace: str
    seed: int
    arm: str
    arrivals: int
    latencies: list[float]
    kinds: list[str]
    span: float  # seconds to the last intended arrival
    wall: float  # seconds to the last image
    cpu: float  # seconds of CPU, the whole process (over HTTP: all processes of the service)
    rows_per_call: float | None = None

    @property
    def key(self) -> tuple[str, int, str, int]:
        return self.trace, self.seed, self.arm, self.arrivals


@dataclass
class Report:
    """`titles` names the arms; `heading` says how the runs were made."""

    runs: list[Run]
    kinds: dict[str, Kind]
    titles: dict[str, str]
    peak: float  # FLOP per second
    max_rows: int
    heading: str

    def write(self, folder: Path) -> None:
        (folder / "bench_engine.md").write_text(self.markdown())
        self.plot(folder / "bench_engine.png")

    def markdown(self) -> str:
        text = [self.heading, ""]
        for trace in self._traces:
            text += [f"### {trace}", "", *self._table(trace), "", *self._ratios(trace), ""]
        return "\n".join([*text, *self._highest_loads()])

    @property
    def _traces(self) -> list[str]:
        return list(dict.fromkeys(run.trace for run in self.runs))

    def of(self, trace: str, arm: str) -> list[Run]:
        return [r for r in self.runs if r.trace == trace and r.arm == arm]

    def _highest_loads(self) -> list[str]:
        """Goodput as a rate: the highest load that was run at which 95 % are within 5x solo."""
        text = ["### Highest load of those above with 95 % of the orders within 5x solo", ""]
        for shape in ("mixed", "uniform"):
            loads = sorted(float(t.partition("-")[2]) for t in self._traces if t.startswith(shape))
            for arm, title in self.titles.items():
                runs = {load: self.of(f"{shape}-{load:g}", arm) for load in loads}
                if not any(runs.values()):
                    continue
                met = [
                    load
                    for load, found in runs.items()
                    if found and (self.numbers(found)["within 5x solo"] or 0) >= 0.95
                ]
                text.append(f"- {shape}, ({arm}) {title}: {max(met) if met else 'none'}")
        return [*text, ""]

    def _table(self, trace: str) -> list[str]:
        rows = {arm: self.numbers(r) for arm in self.titles if (r := self.of(trace, arm))}
        names = list(next(iter(rows.values())))
        text = ["| arm | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for arm, row in rows.items():
            cells = ["" if row[n] is None else f"{row[n]:.3g}" for n in names]
            text.append(f"| ({arm}) {self.titles[arm]} | " + " | ".join(cells) + " |")
        return text

    def numbers(self, runs: Sequence[Run]) -> dict[str, float | None]:
        """The row of one arm on one trace, over all seeds."""
        pairs = [
            (x, self.kinds[k])
            for run in runs
            for x, k in zip(run.latencies, run.kinds, strict=True)
        ]
        late = np.array([x for x, _ in pairs])
        short = np.array([x for x, kind in pairs if kind.name == "short"])
        wall = sum(run.wall for run in runs)
        rows = [run.rows_per_call for run in runs if run.rows_per_call]
        good = sum(x <= SLO * kind.solo for x, kind in pairs)
        middle, high, highest = (float(v) for v in np.percentile(late, [50, 95, 99]))
        return {
            "seeds": len(runs),
            "images/s": len(pairs) / wall,
            "p50 s": middle,
            "p95 s": high,
            "p99 s": highest,
            "short p95 s": float(np.percentile(short, 95)) if len(short) else None,
            "within 5x solo": good / len(pairs),
            "goodput/s": good / wall,
            "rows/call": sum(rows) / len(rows) if rows else None,
            "occupancy": sum(rows) / len(rows) / self.max_rows if rows else None,
            "CPU s/image": sum(run.cpu for run in runs) / len(pairs),
            "MFU": sum(kind.flop for _, kind in pairs) / wall / self.peak,
        }

    def _ratios(self, trace: str) -> list[str]:
        text: list[str] = []
        for base, ours in (("a", "d"), ("b", "d"), ("c", "d"), ("http-a", "http-d")):
            pairs = paired(self.of(trace, base), self.of(trace, ours))
            if not pairs:
                continue
            for name, measure in MEASURES.items():
                if "short" in name and trace.startswith("uniform"):
                    continue
                found = as_text(*interval(pairs, measure, self.kinds))
                together = as_text(*interval(pairs, measure, self.kinds, pooled=True))
                text.append(
                    f"- ({ours}) against ({base}), {name}: {found}; all seeds' arrivals together: "
                    f"{together}"
                )
            if not trace.startswith("burst"):
                most = float(np.median([a.wall / a.span for a, _ in pairs]))
                text.append(
                    f"- ({base}) ended {most:.2f} times as late as the arrivals did, so no server's "
                    f"throughput can be more than {most:.2f}x on this trace"
                )
        return text

    def plot(self, path: Path) -> None:
        """Above: share of the orders done after so many seconds. Below: after so many x solo."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
        from matplotlib.ticker import LogLocator, NullFormatter

        columns = len(self._traces)
        figure, panels = plt.subplots(
            2, columns, figsize=(max(9.0, 4.2 * columns), 7), squeeze=False, sharey=True
        )
        for column, trace in enumerate(self._traces):
            upper, lower = panels[0][column], panels[1][column]
            for number, (arm, title) in enumerate(self.titles.items()):
                runs = self.of(trace, arm)
                if not runs:
                    continue
                look: dict[str, Any] = {"label": f"({arm}) {title}", "color": f"C{number}"}
                if arm == "d":
                    look["linewidth"] = 2.4
                late = np.sort(np.concatenate([r.latencies for r in runs]))
                solo = np.array([self.kinds[k].solo for r in runs for k in r.kinds])
                slow = np.sort(np.concatenate([r.latencies for r in runs]) / solo)
                share = np.linspace(0, 100, len(late))
                upper.plot(late, share, **look)
                lower.plot(slow, share, **look)
            lower.axvline(SLO, color="black", linewidth=1, linestyle="--")
            lower.text(SLO, 2, " 5x solo", fontsize=9)
            upper.set(xscale="log", title=trace, xlabel="latency from intended arrival, s")
            lower.set(xscale="log", xlabel="latency / time of the same order alone")
            for panel in (upper, lower):
                panel.grid(alpha=0.3)
                panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                panel.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
                panel.xaxis.set_minor_formatter(NullFormatter())
        for row in panels:
            row[0].set_ylabel("orders finished, %")
        handles = {
            label: handle
            for panel in panels[0]
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(), handles.keys(), loc="lower center", ncols=min(2, len(handles))
        )
        figure.suptitle("Serving one device: latency of each arm on the same arrivals")
        figure.tight_layout(rect=(0, 0.04 + 0.03 * ((len(handles) + 1) // 2), 1, 1))
        figure.savefig(path, dpi=120)
        plt.close(figure)


def paired(base: Sequence[Run], ours: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The runs of both arms on the very same arrivals."""
    found = {(r.seed, r.arrivals): r for r in ours}
    return [(a, found[a.seed, a.arrivals]) for a in base if (a.seed, a.arrivals) in found]


@dataclass(frozen=True)
class Sample:
    """Some arrivals of one run, or of several, as a measure sees them."""

    latencies: Array
    short: Array  # bool
    solo: Array
    wall: float
    of: int  # arrivals in the whole run

    @classmethod
    def of_run(cls, run: Run, kinds: dict[str, Kind]) -> Sample:
        return cls(
            np.array(run.latencies),
            np.array([kind == "short" for kind in run.kinds]),
            np.array([kinds[kind].solo for kind in run.kinds]),
            run.wall,
            len(run.latencies),
        )

    def drawn(self, picks: Array) -> Sample:
        return replace(
            self,
            latencies=self.latencies[picks],
            short=self.short[picks],
            solo=self.solo[picks],
        )

    @classmethod
    def together(cls, samples: Sequence[Sample]) -> Sample:
        return cls(
            np.concatenate([x.latencies for x in samples]),
            np.concatenate([x.short for x in samples]),
            np.concatenate([x.solo for x in samples]),
            sum(x.wall for x in samples),
            sum(x.of for x in samples),
        )


def p50(x: Sample) -> float:
    return float(np.median(x.latencies))


def short_p95(x: Sample) -> float:
    return float(np.percentile(x.latencies[x.short], 95)) if x.short.any() else float("nan")


def seconds_per_image(x: Sample) -> float:
    return x.wall / x.of


def seconds_per_good_image(x: Sample) -> float:
    share = float(np.mean(x.latencies <= SLO * x.solo))
    return x.wall / x.of / max(share, 0.5 / len(x.latencies))


# Each is smaller when better.
MEASURES: dict[str, Callable[[Sample], float]] = {
    "p50": p50,
    "short p95": short_p95,
    "throughput": seconds_per_image,
    "goodput": seconds_per_good_image,
}


def interval(
    pairs: Sequence[tuple[Run, Run]],
    measure: Callable[[Sample], float],
    kinds: dict[str, Kind],
    *,
    pooled: bool = False,
) -> tuple[float, float, float]:
    """How many times better the second runs are, with its 95 % interval: the ratio of the medians over
    seeds, or, `pooled`, of the measure over all seeds' arrivals taken together.

    Hierarchical bootstrap: seeds are drawn again, and within a seed its arrivals, the same ones for
    both arms. A run's wall time is one number, so for throughput only the seeds are drawn again.
    """
    rng = np.random.default_rng(0)
    wholes = [[Sample.of_run(run, kinds) for run in pair] for pair in pairs]

    def ratio(drawn: Sequence[tuple[int, Array]]) -> float:
        arms = [[wholes[i][arm].drawn(picks) for i, picks in drawn] for arm in (0, 1)]
        if pooled:
            base, ours = (measure(Sample.together(samples)) for samples in arms)
        else:
            base, ours = (float(np.nanmedian([measure(x) for x in samples])) for samples in arms)
        return base / ours

    counts = [len(pair[0].latencies) for pair in pairs]
    point = ratio([(i, np.arange(count)) for i, count in enumerate(counts)])
    draws = [
        ratio(
            [
                (int(i), rng.integers(0, counts[i], counts[i]))
                for i in rng.integers(0, len(pairs), len(pairs))
            ]
        )
        for _ in range(DRAWS)
    ]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return point, float(low), float(high)


def as_text(point: float, low: float, high: float) -> str:
    return f"{point:.2f}x [{low:.2f}, {high:.2f}]"
