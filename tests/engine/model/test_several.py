"""Several real models in one engine: the same bits as alone, also after their weights have left and come
back, and one that is broken or too large harms no other."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from serve_app.catalog.models import Models
from serve_app.engine import build
from serve_app.engine.engine import Engine
from serve_app.engine.ensemble import Ensemble
from serve_app.engine.late_models import LateModels
from serve_app.engine.model import drivers, warm_up
from serve_app.engine.model.device import free_memory
from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.weights import HostedWeights
from serve_app.errors import ModelError, OutOfMemory
from tests.engine import tiny
from tests.engine.harness import image_of, kinds, stream
from tests.engine.model.harness import IN_COMPANY, Recording, difference, plain, requests_of
from tests.factories import params

CPU = torch.device("cpu")
XL: dict[str, Any] = {"family": "sdxl", "schedulers": ["euler", "ddim"]}
SPECS = {
    "tiny": tiny.spec(max_rows=4, threads=1),
    "xl": tiny.spec(name="xl", path="xl", max_rows=4, threads=1, **XL),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.save(tiny.pipeline(), folder / "tiny")
    tiny.save(tiny.xl_pipeline(), folder / "xl")
    return folder


def catalogue(**changes: Any) -> Models:
    return Models({**SPECS, **changes}, "tiny")


@pytest.fixture(scope="module")
def whole(weights: Path) -> dict[str, ModelParts]:
    """Loaded as usual: what the plain pipelines draw with."""
    return {name: load(spec, weights, device="cpu") for name, spec in SPECS.items()}


def hosted(root: Path, name: str) -> tuple[Recording, HostedWeights]:
    parts = load(SPECS[name], root, device="cpu", on_host=True)
    return Recording(parts), HostedWeights(parts.networks, parts.device)


def share_of(size_bytes: float) -> float:
    return size_bytes / free_memory(CPU)


@pytest.fixture(scope="module")
def bytes_of(weights: Path) -> dict[str, int]:
    return {name: hosted(weights, name)[1].size_bytes for name in SPECS}


@asynccontextmanager
async def running(root: Path, share: float, **changes: Any) -> AsyncGenerator[Engine]:
    """An engine of all models, of which so many bytes fit, without measuring for seconds."""
    known = catalogue(**changes)
    engine = await asyncio.to_thread(
        build.build_several, list(known), known, root, share=share, device="cpu"
    )
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()
    stats = engine.stats()
    assert (stats["jobs"], stats["live"], stats["waiting"]) == (0, 0, 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.engine.model.warm_up.WARM_UP_SECONDS", 0.05)


async def drawn(engine: Engine, job_id: str, **changes: Any) -> Any:
    order = {"scheduler": "euler", "model_revision": engine.served[changes.get("model", "tiny")]}
    return [event async for event in stream(engine, job_id, **{**order, **changes})]


def as_bytes(image: torch.Tensor) -> np.ndarray[Any, Any]:
    return (image.float() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", list(SPECS))
def test_weights_that_left_and_came_back_draw_the_same_bits(
    weights: Path, whole: dict[str, ModelParts], name: str
) -> None:
    """As the plain pipeline draws them from the directory itself. Between steps they may leave, too."""
    order = params(model=name, seed=3)
    want = plain(whole[name], order)
    runner, own = hosted(weights, name)
    for moves in (False, True):
        own.bring()
        (request,) = requests_of(runner, order, 0)
        runner.start(request)
        while not request.denoised:
            assert not runner.denoise([request])
            request.step += 1
            if moves:
                own.leave()
                assert own.bring() > 0
        runner.decode([request])
        assert torch.equal(runner.drawn[request], want)
        own.leave()


def test_a_weight_is_copied_once_and_read_where_it_is(weights: Path) -> None:
    """Tied weights stay tied, strides stay, and what leaves gives its memory back."""
    parts = load(tiny.spec(channels_last=True), weights, device="cpu", on_host=True)
    unet, text = parts.pipe.unet, parts.pipe.text_encoder
    first = unet.conv_in.weight
    strides, values, pointer = first.stride(), first.clone(), first.data_ptr()
    tied = torch.nn.Linear(1, 1)
    tied.weight = text.get_input_embeddings().weight
    own = HostedWeights([*parts.networks, tied], parts.device)
    unique = {w.data_ptr(): w.numel() * w.itemsize for n in parts.networks for w in n.parameters()}
    assert sum(unique.values()) <= own.size_bytes < 1.3 * sum(unique.values())
    assert first is unet.conv_in.weight
    assert first.data_ptr() != pointer
    on_host = first.data_ptr()
    own.bring()
    assert own.bring() == 0.0
    assert first.data_ptr() not in (pointer, on_host)
    assert (first.stride(), torch.equal(first, values)) == (strides, True)
    assert strides != torch.empty(first.shape).stride()
    assert tied.weight.data_ptr() == text.get_input_embeddings().weight.data_ptr()
    own.leave()
    assert first.data_ptr() == on_host


async def test_orders_of_two_models_that_take_turns(
    weights: Path, whole: dict[str, ModelParts], bytes_of: dict[str, int]
) -> None:
    """Every picture is as the plain pipelines draw it, to one level of 255 in company, and none is lost."""
    share = share_of(max(bytes_of.values()) + 1)
    async with running(weights, share) as engine:
        assert engine.places() == {"tiny": False, "xl": True}
        orders = [(name, seed) for seed in range(3) for name in SPECS]
        found = await asyncio.gather(
            *(
                drawn(engine, f"{name}{seed}", model=name, seed=seed, steps=8)
                for name, seed in orders
            )
        )
        strict = await drawn(engine, "alone", model="tiny", seed=9, reproducible="strict")
        assert sum(engine.places().values()) == 1
    for (name, seed), events in zip(orders, found, strict=True):
        want = plain(whole[name], params(model=name, seed=seed, steps=8))
        off = np.abs(image_of(events).astype(int) - as_bytes(want))
        assert off.max() <= 1, (name, seed)
    want = plain(whole["tiny"], params(seed=9))
    assert np.array_equal(image_of(strict), as_bytes(want))


def test_in_company_after_a_switch_the_difference_is_within_the_promise(
    weights: Path, whole: dict[str, ModelParts]
) -> None:
    runner, own = hosted(weights, "tiny")
    own.bring()
    requests = [requests_of(runner, params(seed=seed), seed)[0] for seed in range(3)]
    for request in requests:
        runner.start(request)
    for step in range(5):
        assert not runner.denoise(requests)
        for request in requests:
            request.step += 1
        if step == 2:
            own.leave()
            own.bring()
    runner.decode(requests)
    worst = max(difference(runner.drawn[r], plain(whole["tiny"], r.params)) for r in requests)
    print(f"in company, after a switch: {worst:.1e}")
    assert worst <= IN_COMPANY


def _broken(model: str, plain: Any) -> Any:
    """As `plain`, but for the parts or the runner of this model."""

    def call(of: Any, *args: Any) -> Any:
        spec = of.spec if hasattr(of, "spec") else of.parts.spec
        if spec.name == model:
            raise RuntimeError("pinned memory ran out")
        return plain(of, *args)

    return call


async def test_a_model_that_cannot_be_loaded_leaves_the_others_alone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it can: then it is drawn, and those that draw meanwhile wait for no file."""
    root = tmp_path / "weights"
    shutil.copytree(weights, root)
    shutil.move(root / "xl", tmp_path / "away")
    async with running(root, 1.0) as engine:
        assert list(engine.served) == ["tiny"]
        assert "xl" in engine.failed
        assert "image" in kinds(await drawn(engine, "a"))
        late = LateModels(engine, catalogue(), root)
        late.load()
        assert "xl" in engine.failed, "it is still away"
        shutil.move(tmp_path / "away", root / "xl")
        late.load()
        assert engine.failed == {}
        assert "image" in kinds(await drawn(engine, "b", model="xl"))
    for model, broken in (("xl", warm_up), ("tiny", drivers)):
        method = "warm_up" if broken is warm_up else "driver_of"
        with monkeypatch.context() as patched:
            patched.setattr(broken, method, _broken(model, getattr(broken, method)))
            async with running(root, 1.0) as engine:
                assert list(engine.failed) == [model], "whatever is wrong with it"
                assert "RuntimeError" in engine.failed[model]
    (root / "xl/unet/config.json").unlink()
    (root / "tiny/unet/config.json").unlink()
    known = catalogue()
    with pytest.raises(ModelError, match="'tiny'"):
        build.build_several(list(known), known, root, share=1.0, device="cpu")


async def test_a_model_that_finds_no_memory_fails_its_own_orders_only(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the others leave for it. If that does not help, its orders end and theirs go on."""
    async with running(weights, 1.0) as engine:
        assert engine.places() == {"tiny": True, "xl": True}
        models = engine.runner
        assert isinstance(models, Ensemble)
        asked: list[tuple[str, tuple[str, ...]]] = []
        bring, denoise = models.bring, ModelRunner.denoise

        def narrow(runner: ModelRunner, requests: Any) -> Any:
            if len(asked) == 0:
                raise OutOfMemory
            return denoise(runner, requests)

        def watched(model: str, leaves: Any) -> float:
            asked.append((model, tuple(leaves)))
            if len(asked) > 1 and model == "xl":
                raise OutOfMemory
            return bring(model, leaves)

        monkeypatch.setattr(models, "bring", watched)
        monkeypatch.setattr(ModelRunner, "denoise", narrow)
        assert "image" in kinds(await drawn(engine, "a")), "drawn when `xl` had left"
        assert asked == [("tiny", ("xl",))]
        refused = await drawn(engine, "b", model="xl")
        assert refused[-1]["code"] == "out_of_memory"
        assert "image" in kinds(await drawn(engine, "c"))
