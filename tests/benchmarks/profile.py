"""Where one saturated second of the engine goes: time inside each part, by thread.

Knows which methods are the parts; measures the busy engine only, after its line has filled.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from serve_app.engine import encoders, images
from serve_app.engine.engine import Engine
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.warm_up import probe, warm_up
from serve_app.engine.scheduler import Scheduler
from tests.benchmarks.traces import Kind, Model, draw_params
from tests.factories import ticket

ORDERS = 48


class Stopwatch:
    """Adds up seconds inside named calls, without what a named call inside another takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inside: dict[str, list[float]] = defaultdict(
            list
        )  # by thread: seconds of inner calls

    def watch(self, owner: Any, method: str, name: str, thread: str = "loop") -> None:
        """Replace `owner.method`; calls of one `thread` may nest."""
        plain: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            inner = self._inside[thread]
            inner.append(0.0)
            began = time.perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - began
                self.seconds[name] += seconds - inner.pop()
                self.calls[name] += 1
                if inner:
                    inner[-1] += seconds

        setattr(owner, method, timed)

    def reset(self) -> None:
        self.seconds.clear()
        self.calls.clear()


def profile(parts: ModelParts, max_rows: int, seconds: float = 1.0) -> str:
    """Two tables as text: parts of the engine, and torch operators of one wide UNet call."""
    runner = ModelRunner(parts)
    costs = warm_up(runner, max_rows).costs
    rows = costs.knee(parts.spec.native_size, max_rows)
    call = probe(runner, rows)
    call()
    with torch_profile(activities=[ProfilerActivity.CPU]) as found:
        call()
    table = found.key_averages().table(
        sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=60
    )
    watch, spent = asyncio.run(_saturated(runner, Scheduler(costs, max_rows=max_rows), seconds))
    text = [f"{spent:.2f} s of the engine, {ORDERS} orders in line all the time", ""]
    for name, inside in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        share = 100 * inside / spent
        text.append(
            f"{name:44} {inside * 1000:8.1f} ms {share:6.1f} %  {watch.calls[name]:5} calls"
        )
    loop = sum(s for name, s in watch.seconds.items() if not name.startswith("beside"))
    text.append(
        f"{'not inside any of these (lock, loop, idle)':44} {(spent - loop) * 1000:8.1f} ms"
    )
    return "\n".join([*text, "", f"one UNet call of {rows} rows, by operator:", table])


async def _saturated(
    runner: ModelRunner, scheduler: Scheduler, seconds: float
) -> tuple[Stopwatch, float]:
    watch = Stopwatch()
    watch.watch(runner.unet, "network", "UNet")
    watch.watch(runner, "predict", "pack rows, scale inputs")
    watch.watch(runner, "denoise", "guidance, and each diffusers scheduler's step")
    watch.watch(runner, "decode", "VAE decode, to uint8 on the host")
    watch.watch(scheduler, "schedule", "schedule")
    engine = Engine(runner, scheduler)
    watch.watch(engine, "_settle", "settle, events")
    watch.watch(runner, "start", "beside the loop: text encoding, noise", "text")
    watch.watch(images, "png", "beside the loop: PNG", "png")
    assert encoders.images is images
    engine.start()
    spec, rng = runner.parts.spec, random.Random(0)
    model = Model(spec.name, runner.parts.revision, spec.native_size, spec.schedulers[0])
    kinds = [Kind("short", 4, 1.0)] * 7 + [Kind("long", 30, 5.0)] * 3

    done = asyncio.Semaphore(0)

    async def read(number: int) -> None:
        """Order again after each image, so that the line stays as long as it is."""
        while True:
            params = draw_params(model, rng.choice(kinds), rng)
            async for _ in engine.render(params, ticket(params, job_id=str(number))):
                pass
            done.release()

    readers = [asyncio.create_task(read(i)) for i in range(ORDERS)]
    for _ in range(ORDERS // 4):
        await done.acquire()  # after these all kinds of requests are in the line
    watch.reset()
    began = time.perf_counter()
    await asyncio.sleep(seconds)  # the window that is measured
    spent = time.perf_counter() - began
    result = Stopwatch()
    result.seconds, result.calls = watch.seconds.copy(), watch.calls.copy()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await engine.close()
    return result, spent
