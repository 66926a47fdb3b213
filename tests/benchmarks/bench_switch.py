"""What it costs that two models take turns on a device: seconds and bytes of a switch, and how much longer
the orders of one wait when the other is ordered too.

    python -m tests.benchmarks.bench_switch --out FOLDER

Workload, on one engine in this process, one thread, without HTTP: two checkpoints of Stable Diffusion's
architecture with a third of its widths, random weights, 128 x 128 pixels. Orders of 6 steps with guidance
come at random (Poisson, seed 0) at 0.35 of what the device can do for one model. Arms: (1) model `a` alone;
(2) as many of `b` too, and both have a place; (3) the same arrivals, and one of them has a place at a time.
On a CPU the device is the same memory as the host, so a switch costs one copy in memory; on a GPU it is one
over the bus, which nobody has measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTextModel

from serve_app.catalog.models import Models, ModelSpec
from serve_app.engine import build
from serve_app.engine.engine import Engine
from serve_app.engine.ensemble import Ensemble
from serve_app.engine.model.device import free_memory
from serve_app.engine.turns import Turns
from serve_app.params import GenerationParams
from tests.engine import tiny
from tests.factories import ticket

SIZE = 128
STEPS = 6
LOAD = 0.35  # of each model
SWITCHES = 20


class Waited(NamedTuple):
    """Seconds from the intended arrival to the PNG, by model, and the switches meanwhile."""

    seconds: dict[str, list[float]]
    switches: int


def pipeline(seed: int) -> StableDiffusionPipeline:
    """Blocks and layers as in Stable Diffusion 1.5."""
    torch.manual_seed(seed)
    down = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    unet = tiny.unet(
        sample_size=SIZE // 8,
        block_out_channels=(96, 192, 384, 384),
        layers_per_block=2,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=32,
    )
    sizes: dict[str, Any] = {
        "block_out_channels": (32, 64, 96, 96),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "latent_channels": 4,
        "sample_size": SIZE,
    }
    return StableDiffusionPipeline(
        vae=AutoencoderKL(**sizes),
        text_encoder=CLIPTextModel(tiny.text_config()),
        tokenizer=tiny.tokenizer(),  # pyright: ignore[reportArgumentType]
        unet=unet,
        scheduler=tiny.scheduler(),
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def models(folder: Path) -> Models:
    specs: dict[str, ModelSpec] = {}
    for number, name in enumerate("ab"):
        if not (folder / name).is_dir():
            tiny.save(pipeline(number), folder / name)
        side = {"min": 64, "max": 256}
        changes: dict[str, Any] = {"native_size": (SIZE, SIZE), "side": side, "threads": 1}
        specs[name] = tiny.spec(name=name, path=name, max_rows=8, **changes)
    return Models(specs, "a")


async def draw(engine: Engine, job_id: str, model: str, seed: int) -> None:
    params = GenerationParams(
        prompt="a red sword",
        seed=seed,
        width=SIZE,
        height=SIZE,
        steps=STEPS,
        guidance_scale=5.0,
        scheduler="euler",
        model=model,
        model_revision=engine.served[model],
    )
    events = [event async for event in engine.render(params, ticket(params, job_id=job_id))]
    assert events[-1]["kind"] in ("image", "progress"), events[-1]


async def arm(engine: Engine, wanted: str, each: float, seconds: float) -> Waited:
    """Orders of the `wanted` models, one every `each` seconds of each model on average."""
    rng, began = random.Random(0), time.perf_counter()
    found: dict[str, list[float]] = {name: [] for name in wanted}
    arrivals: list[tuple[float, str]] = []
    for name in wanted:
        at = rng.expovariate(1 / each)
        while at < seconds:
            arrivals.append((at, name))
            at += rng.expovariate(1 / each)
    before = len(switches)

    async def order(number: int, at: float, name: str) -> None:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        await draw(engine, f"{number}", name, seed=number)
        found[name].append(time.perf_counter() - began - at)

    await asyncio.gather(*(order(i, *arrival) for i, arrival in enumerate(sorted(arrivals))))
    return Waited(found, len(switches) - before)


switches: list[float] = []  # seconds of each


def an_engine(known: Models, folder: Path, share: float) -> Engine:
    engine = build.build_several(
        list(known),
        known,
        folder,
        share=share,
        device="cpu",
        on_switch=lambda model, spent: switches.append(spent),
    )
    engine.start()
    return engine


async def measure(folder: Path, seconds: float) -> list[tuple[str, str]]:
    known = models(folder)
    rows: list[tuple[str, str]] = []
    both = an_engine(known, folder, 1.0)
    ensemble, turns = both.runner, both.scheduler
    assert isinstance(ensemble, Ensemble)
    assert isinstance(turns, Turns)
    size = next(iter(turns.sizes().values()))
    for name in "ab":
        await draw(both, "first", name, seed=0)
    began = time.perf_counter()
    for seed in range(5):
        await draw(both, "alone", "a", seed=seed)
    solo = (time.perf_counter() - began) / 5
    each = solo / LOAD
    alone = await arm(both, "a", each, seconds)
    beside = await arm(both, "ab", each, seconds)
    await both.close()

    one = an_engine(known, folder, 1.5 * size / free_memory(torch.device("cpu")))
    switches.clear()
    for _ in range(SWITCHES // 2):
        for name in "ab":
            await draw(one, "switch", name, seed=0)
    spent = sorted(switches)
    rows.append(("bytes of a switch", f"{size / 2**20:.0f} MiB"))
    rows.append(
        ("a switch, median and longest", f"{_ms(spent[len(spent) // 2])}, {_ms(spent[-1])}")
    )
    rows.append(("one order of `a` alone on the engine", _ms(solo)))
    turn = await arm(one, "ab", each, seconds)
    await one.close()
    for name, waited in (
        ("`a` alone", alone),
        ("`b` ordered too, both have a place", beside),
        ("`b` ordered too, one has a place", turn),
    ):
        own = sorted(waited.seconds["a"])
        p95 = statistics.quantiles(own, n=20, method="inclusive")[18]
        told = f"{_ms(statistics.median(own))}, {_ms(p95)} ({len(own)} orders"
        rows.append((f"median and p95 of `a`: {name}", f"{told}, {waited.switches} switches)"))
    return rows


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each arm")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = asyncio.run(measure(options.out / "weights", options.seconds))
    text = "\n".join(["| | |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows)])
    (options.out / "bench_switch.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
