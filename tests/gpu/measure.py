"""One command for one GPU: what this engine makes of it, beside the plain pipeline and the card's own peak.

    python -m tests.gpu.measure --out FOLDER --minutes 8
    python -m tests.gpu.measure --out FOLDER --dry          # on a CPU, with tiny networks

Needs no network and no checkpoint. Each section has its own share of the time and its own errors; results are
lines of JSON in FOLDER/measured.jsonl, the last one a table. `--only` names sections.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from serve_app.catalog.families import TRANSFORMERS
from serve_app.catalog.schedulers import DIFFUSION
from serve_app.engine.costs import CostTable
from serve_app.engine.engine import Engine
from serve_app.engine.model.dit.runner import TransformerRunner
from serve_app.engine.model.model_runner import ModelRunner, rows_of
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.model.warm_up import probe_request, warm_up
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.params import GenerationParams
from tests.benchmarks.arms import Plain
from tests.engine import tiny
from tests.engine.model.dit import harness
from tests.engine.model.dit import tiny as dit
from tests.factories import params, ticket
from tests.gpu.bench import Bench
from tests.gpu.subjects import ROW, image_tflop, parts_of, sdxl, z_image

ROWS = (1, 2, 4, 8, 16)
RESERVE_S = 20.0  # no section begins with less


class Measurements:
    """The sections, in the order in which they run. One SDXL is made for all of them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.side = 1024 if bench.gpu else tiny.SIZE
        self.parts = parts_of(bench, sdxl(bench), "sdxl", self.side, max_rows=16)
        self._costs: CostTable | None = None

    def order(self, **changes: Any) -> GenerationParams:
        usual = {"width": self.side, "height": self.side, "steps": 30, "guidance_scale": 6.0}
        return params(**{**usual, **changes})

    def ceilings(self) -> None:
        """A bfloat16 product of random numbers, and a copy."""
        bench, n = self.bench, 8192 if self.bench.gpu else 128
        one, other = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in "ab")
        product, _ = bench.milliseconds(lambda: one @ other)
        bench.peak = 2 * n**3 / product / 1e9
        source = torch.randn(2**28 if bench.gpu else 2**16, device=bench.device)
        target = torch.empty_like(source)
        copy, _ = bench.milliseconds(lambda: target.copy_(source))
        card = torch.cuda.get_device_name() if bench.gpu else "cpu"
        speed = round(2 * source.nbytes / copy / 1e9, 2)
        peak = round(bench.peak, 1)
        bench.say("ceilings", bf16_tflops=peak, copy_tb_s=speed, card=card, torch=torch.__version__)

    def identity(self) -> None:
        """The promise, here: each scheduler alone, bit for bit, on latents of four steps; and each family of
        transformers, tiny, from prompt to pixels in bfloat16."""
        pipe, runner, differ = self.parts.pipe, ModelRunner(self.parts), dict[str, float]()
        side = 512 if self.bench.gpu else tiny.SIZE
        for name in DIFFUSION:
            wanted = self.order(scheduler=name, steps=4, width=side, height=side)
            expected = _plain_latents(pipe, wanted)
            request = Request(wanted, 0, 0, runner.guides(wanted))
            runner.start(request)
            while not request.denoised:
                assert not runner.denoise([request])
                request.step += 1
            if not torch.equal(request.state.latents, expected):
                off = (request.state.latents.float() - expected.float()).abs().max()
                differ[name] = float(off)
        for family in TRANSFORMERS:
            tiny_one = dit.loaded(family, dtype="bfloat16", device=str(self.bench.device))
            scheduler = tiny_one.spec.schedulers[0]
            wanted = harness.order(
                scheduler=scheduler, guidance_scale=4.0, negative_prompt="blurry"
            )
            (image,), _ = harness.drawn(tiny_one, [wanted])
            expected = harness.reference(tiny_one, wanted)
            if not torch.equal(image, expected):
                differ[family] = float((image.float() - expected.float()).abs().max())
        compared = len(DIFFUSION) + len(TRANSFORMERS)
        self.bench.say("identity", compared=compared, differ=differ)

    def calls(self) -> None:
        """One UNet call by rows: eager, channels_last, cuDNN's attention, one CUDA graph."""
        bench, unet = self.bench, self.parts.pipe.unet
        self._say_calls("eager", self._call_times(ModelRunner(self.parts)))
        torch.backends.cudnn.benchmark = True
        unet.to(memory_format=torch.channels_last)
        self._say_calls("channels_last, cudnn.benchmark", self._call_times(ModelRunner(self.parts)))
        if not bench.gpu:
            return
        from torch.nn.attention import SDPBackend, sdpa_kernel

        order = [
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ]
        with sdpa_kernel(order, set_priority=True):
            self._say_calls("and cuDNN attention", self._call_times(ModelRunner(self.parts)))
        runner = ModelRunner(self.parts)
        request = probe_request(runner)
        for count in (1, 2):
            rows = rows_of([request] * count)
            with torch.inference_mode():
                stream = torch.cuda.Stream()
                with torch.cuda.stream(stream):
                    for _ in range(3):
                        runner.unet(rows)
                torch.cuda.current_stream().wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    runner.unet(rows)
            times = bench.milliseconds(graph.replay)
            bench.say("calls", arm="CUDA graph", rows=count, ms=times)
            del graph

    def compiled(self) -> None:
        """One graph for one row and one for any number from two on, as the service compiles."""
        runner = ModelRunner(self.parts)
        request = probe_request(runner)
        began = time.perf_counter()
        with torch.inference_mode():
            for count in (1, 2):
                backend = "inductor" if self.bench.gpu else "eager"
                runner.unet.compile_for(rows_of([request] * count), backend)
        self.bench.synchronize()
        took = round(time.perf_counter() - began, 1)
        self._say_calls("compiled", self._call_times(runner), compile_s=took)

    def decoding(self) -> None:
        """One picture and four, by type and layout; GiB beside the weights."""
        bench, vae = self.bench, self.parts.vae
        latents = torch.randn(1, 4, self.side // 8, self.side // 8, device=bench.device)
        found = dict[str, Any]()
        layouts = (torch.contiguous_format, torch.channels_last)
        for dtype in (torch.float32, torch.bfloat16) if bench.gpu else (torch.float32,):
            for layout in layouts:
                vae.to(dtype).to(memory_format=layout)
                for count in (1, 4):
                    batch = latents.expand(count, -1, -1, -1).to(dtype)
                    if bench.gpu:
                        torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated() if bench.gpu else 0
                    with torch.inference_mode():
                        times = bench.milliseconds(lambda batch=batch: vae.decode(batch), 0.6)
                    peak = torch.cuda.max_memory_allocated() if bench.gpu else 0
                    name = f"{dtype} {layout} x{count}".replace("torch.", "")
                    found[name] = (*times, round((peak - before) / 2**30, 2))
        vae.to(bench.half).to(memory_format=torch.contiguous_format)
        bench.say("decoding", ms_host_gib=found)

    def end_to_end(self) -> None:
        """Images a second: the plain pipeline one at a time; the engine with one order and with twelve."""
        bench = self.bench
        steps = (20, 30) if bench.gpu else (2,)
        for count in steps:
            wanted = self.order(steps=count)
            seconds = self._plain_seconds(wanted)
            tflop = image_tflop(2 * count)
            share = bench.share(tflop, seconds)
            bench.say("end_to_end", arm="plain", steps=count, images_s=1 / seconds, share=share)
        cases = ((1, steps[-1], False), (12, steps[0], False), (12, steps[0], True))
        for orders, count, watched in cases:
            seconds, latency, rows = asyncio.run(self._engine_seconds(orders, count, watched))
            share = bench.share(orders * image_tflop(2 * count), seconds)
            name = "engine, watched" if watched else "engine"
            bench.say(
                "end_to_end",
                arm=name,
                orders=orders,
                steps=count,
                images_s=orders / seconds,
                mean_latency_s=round(latency, 3),
                rows_per_call=rows,
                share=share,
            )

    def mixed(self) -> None:
        """70 % of four steps without guidance and 30 % of thirty with it, at random times, at 0.7 of what the
        plain pipeline can serve."""
        asyncio.run(self._mixed())

    def transformer(self) -> None:
        """Z-Image of its true size: a step of 1, 2 and 4 requests at 1024 x 1024, and one image alone."""
        bench = self.bench
        if bench.gpu and torch.cuda.mem_get_info()[0] < 24 * 2**30:
            bench.say("transformer", skipped="less than 24 GiB are free")
            return
        side = 1024 if bench.gpu else 64
        changes = {"schedulers": ["flow_euler"], "multiple": 16}
        parts = parts_of(bench, z_image(bench), "z_image", side, **changes)
        runner = TransformerRunner(parts)
        request = probe_request(runner)
        with torch.inference_mode():
            times = {
                n: bench.milliseconds(lambda n=n: runner.predict([request] * n)) for n in (1, 2, 4)
            }
        drawn, _ = bench.milliseconds(lambda: runner.images([request]))
        bench.say("transformer", model="Z-Image", ms_by_requests=times, decode_ms=drawn)

    def table(self) -> None:
        """What was measured, in one place."""
        rows = [line for line in self.bench.lines if "share" in line or "shares" in line]
        self.bench.say("table", peak_tflops=round(self.bench.peak, 1), rows=rows)

    # ---- parts of them ----

    def _call_times(self, runner: ModelRunner) -> dict[int, tuple[float, float]]:
        request = probe_request(runner)
        with torch.inference_mode():
            return {
                n: self.bench.milliseconds(lambda n=n: runner.predict([request] * n), 0.8)
                for n in (ROWS if self.bench.gpu else (1, 2))
            }

    def _say_calls(self, arm: str, times: dict[int, tuple[float, float]], **more: Any) -> None:
        shares = {n: self.bench.share(n * ROW, ms / 1000) for n, (ms, _) in times.items()}
        self.bench.say("calls", arm=arm, ms_host=times, shares=shares, **more)

    def _plain_seconds(self, wanted: GenerationParams) -> float:
        plain = Plain(self.parts, CostTable((self.side, self.side), {1: 1.0}), 1)

        async def twice() -> float:
            await plain.draw(wanted, 0)
            began = time.perf_counter()
            await plain.draw(wanted, 1)
            taken = time.perf_counter() - began
            await plain.close()
            return taken

        return asyncio.run(twice())

    def _engine(self) -> Engine:
        runner = ModelRunner(self.parts)
        if self._costs is None:
            self._costs = warm_up(runner, 2 if self.bench.dry else None).costs
        engine = Engine(runner, Scheduler(self._costs, max_rows=16), report_every=0.3)
        engine.start()
        return engine

    async def _engine_seconds(
        self, orders: int, steps: int, watched: bool
    ) -> tuple[float, float, float]:
        engine, latencies = self._engine(), list[float]()

        async def one(seed: int) -> None:
            began = time.perf_counter()
            await _draw(engine, self.order(steps=steps, seed=seed), watched)
            latencies.append(time.perf_counter() - began)

        await one(1)
        latencies.clear()
        began = time.perf_counter()
        await asyncio.gather(*(one(seed) for seed in range(2, 2 + orders)))
        taken = time.perf_counter() - began
        rows = engine.stats()["rows_per_call"]
        await engine.close()
        return taken, statistics.mean(latencies), rows

    async def _mixed(self) -> None:
        kinds = [(4, 1.0)] * 7 + [(30 if self.bench.gpu else 6, 6.0)] * 3
        plain = Plain(self.parts, CostTable((self.side, self.side), {1: 1.0}), 1)
        engine, random = self._engine(), Random(1)

        def wanted(kind: tuple[int, float], seed: int) -> GenerationParams:
            return self.order(steps=kind[0], guidance_scale=kind[1], seed=seed)

        async def by_engine(order: GenerationParams, number: int) -> None:
            await _draw(engine, order, watched=False)

        alone = dict[tuple[int, float], float]()
        for kind in dict.fromkeys(kinds):
            await plain.draw(wanted(kind, 1), 0)
            began = time.perf_counter()
            await plain.draw(wanted(kind, 2), 0)
            alone[kind] = time.perf_counter() - began
        rate = 0.7 / statistics.mean(alone[kind] for kind in kinds)
        most = 40 if self.bench.gpu else 3
        count = max(3, min(most, int((self.bench.left - RESERVE_S) / 2 * rate)))
        gaps = [random.expovariate(rate) for _ in range(count)]
        orders = [random.choice(kinds) for _ in range(count)]
        for name, draw in (("plain", plain.draw), ("engine", by_engine)):
            latencies = await _trace(draw, [wanted(k, i) for i, k in enumerate(orders)], gaps)
            short = [s for s, kind in zip(latencies, orders, strict=True) if kind[0] == 4]
            self.bench.say(
                "mixed",
                arm=name,
                orders=count,
                p50_s=round(statistics.median(latencies), 3),
                short_p50_s=round(statistics.median(short), 3) if short else None,
            )
        await plain.close()
        await engine.close()


SECTIONS: tuple[Callable[[Measurements], None], ...] = (
    Measurements.ceilings,
    Measurements.identity,
    Measurements.end_to_end,
    Measurements.mixed,
    Measurements.calls,
    Measurements.decoding,
    Measurements.transformer,
    Measurements.compiled,
    Measurements.table,
)


async def _draw(engine: Engine, wanted: GenerationParams, watched: bool) -> None:
    job = ticket(wanted, job_id=str(wanted.seed), preview=watched)
    async for event in engine.render(wanted, job):
        assert event["kind"] != "failed", event


async def _trace(draw: Any, orders: list[GenerationParams], gaps: list[float]) -> list[float]:
    """Latencies of orders that arrive with these gaps between them, in seconds."""
    began, at = time.perf_counter(), 0.0

    async def one(order: GenerationParams, number: int, due: float) -> float:
        await asyncio.sleep(max(0.0, due - (time.perf_counter() - began)))
        await draw(order, number)
        return time.perf_counter() - began - due

    waits = list[Any]()
    for number, (order, gap) in enumerate(zip(orders, gaps, strict=True)):
        at += gap
        waits.append(one(order, number, at))
    return await asyncio.gather(*waits)


def _plain_latents(pipe: Any, wanted: GenerationParams) -> torch.Tensor:
    before = pipe.scheduler
    pipe.scheduler = new_scheduler(before.config, wanted.scheduler)
    try:
        with torch.inference_mode():
            return pipe(
                wanted.prompt,
                negative_prompt=wanted.negative_prompt or None,
                num_inference_steps=wanted.steps,
                guidance_scale=wanted.guidance_scale,
                generator=torch.Generator("cpu").manual_seed(wanted.seed),
                width=wanted.width,
                height=wanted.height,
                output_type="latent",
            ).images
    finally:
        pipe.scheduler = before


def measure(bench: Bench, only: list[str] | None = None) -> bool:
    """Whether every section ran."""
    whole, subject = True, Measurements(bench)
    for section in SECTIONS:
        name = section.__name__
        if only and name not in only:
            continue
        if bench.left < RESERVE_S and name != "table":
            bench.say(name, skipped="no time is left")
            whole = False
            continue
        try:
            section(subject)
        except Exception as error:  # the other sections still run
            bench.say(name, error=f"{type(error).__name__}: {error}"[:400])
            traceback.print_exc(limit=4)
            whole = False
    return whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measure")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--dry", action="store_true", help="tiny networks on the CPU")
    asked = parser.parse_args(arguments)
    bench = Bench(asked.out, asked.minutes, dry=asked.dry)
    if not bench.gpu and not asked.dry:
        bench.close()
        print("no GPU here; --dry tries everything on the CPU", file=sys.stderr)
        return 2
    try:
        return 0 if measure(bench, asked.only) else 1
    finally:
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
