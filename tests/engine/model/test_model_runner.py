"""The model runner's calls: what fails, for whom, and what the notes of an image say."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from serve_app.engine.model.driver import DECODE_BUFFERS
from serve_app.engine.model.model_runner import ModelRunner, rows_of
from serve_app.engine.request import Stage
from serve_app.engine.runner import DeviceLost
from serve_app.errors import NonFinite, OutOfMemory, RenderError
from tests.engine import tiny
from tests.engine.model.harness import requests_of
from tests.factories import params


@pytest.fixture
def runner() -> ModelRunner:
    return ModelRunner(tiny.shared_parts())


def test_quality_tiers_are_named(runner: ModelRunner) -> None:
    """Guidance stops after its share of the steps, and a note says so; another names the tiny decoder."""
    wanted = params(guidance_stop=0.5, decoder="tiny", steps=5)
    (request,) = requests_of(runner, wanted, 0)
    runner.start(request)
    rows: list[int] = []
    while not request.denoised:
        rows.append(request.rows)
        assert not runner.denoise([request])
        request.step += 1
    assert rows == [2, 2, 2, 1, 1]
    notes = runner.notes(request)
    assert [note.split(":")[0] for note in notes] == ["guidance_stop", "tiny_decoder"]


def test_a_long_prompt_is_noted(runner: ModelRunner) -> None:
    """Fourteen tokens fit between the begin and end marks; the note counts used ones and all."""
    assert notes_of(runner, prompt="a red sword " * 6) == [
        "prompt_truncated: 14 of 18 tokens used",
        "subject_truncated: the model read your own words only in part",
    ]


@pytest.mark.parametrize(
    ("words_before", "words_after", "cut"),
    [(0, 14, False), (11, 6, False), (12, 6, True), (14, 0, True), (0, 6, None), (11, 0, None)],
)
def test_a_style_that_takes_the_subjects_room_is_noted(
    runner: ModelRunner, words_before: int, words_after: int, cut: bool | None
) -> None:
    """Fourteen tokens fit, three are the subject's. A style that is cut by itself is another note. None:
    nothing is cut."""
    prompt = "icon " * words_before + "a red sword" + " flat" * words_after
    codes = [note.split(":")[0] for note in notes_of(runner, prompt=prompt, subject="a red sword")]
    assert codes == ([] if cut is None else ["prompt_truncated", "subject_truncated"][: 1 + cut])


def notes_of(runner: ModelRunner, **order: str) -> list[str]:
    (request,) = requests_of(runner, params(**order), 0)
    runner.start(request)
    return runner.notes(request)


def test_images_of_two_requests_are_decoded_in_one_call(runner: ModelRunner) -> None:
    """Each gets its own pixels, and the call's time is recorded for both."""
    requests = requests_of(runner, params(n=2), 0)
    for request in requests:
        runner.start(request)
    first, second = (wait() for wait in runner.decode(requests))
    assert first.shape == second.shape == (tiny.SIZE, tiny.SIZE, 3)
    assert (first != second).any()
    assert [(t.stage, t.number) for t in runner.timings()] == [(Stage.DECODING, 2)]


def test_latents_that_are_not_finite_fail_their_own_image(runner: ModelRunner) -> None:
    """The other image of the call is delivered."""
    requests = requests_of(runner, params(n=2), 0)
    for request in requests:
        runner.start(request)
    with torch.inference_mode():
        requests[0].state.latents[0, 0, 0, 0] = float("inf")
    bad, good = runner.decode(requests)
    with pytest.raises(NonFinite):
        bad()
    assert good().shape == (tiny.SIZE, tiny.SIZE, 3)


def test_a_step_that_fails_is_returned_with_its_request(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other request of the call has moved, and the error does not show the original text."""
    bad, good = requests = requests_of(runner, params(n=2), 0)
    for request in requests:
        runner.start(request)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("a prompt")

    monkeypatch.setattr(bad.state.scheduler, "step", fail)
    before = good.state.latents
    failures = runner.denoise(requests)
    assert list(failures) == [bad]
    error = failures[bad]
    assert isinstance(error, RenderError)
    assert "a prompt" not in error.detail
    assert not torch.equal(good.state.latents, before)


def test_a_device_that_is_lost_in_one_step_fails_the_call(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later call could succeed, so this is no failure of one request."""
    (request,) = requests_of(runner, params(), 0)
    runner.start(request)

    def lost(*_: object, **__: object) -> None:
        raise torch.AcceleratorError("CUDA error")

    monkeypatch.setattr(request.state.scheduler, "step", lost)
    with pytest.raises(DeviceLost):
        runner.denoise([request])


def test_a_prompt_that_cannot_be_encoded_is_a_render_error(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the original text, which could show the prompt."""

    def refuse(prompt: str, params: object) -> None:
        raise ValueError(prompt)

    monkeypatch.setattr(runner.family, "_encode", refuse)
    (request,) = requests_of(runner, params(prompt="a secret"), 0)
    with pytest.raises(RenderError, match="ValueError in the model") as caught:
        runner.start(request)
    assert "secret" not in caught.value.detail


def test_an_image_that_exceeds_the_memory_does_not_fit(runner: ModelRunner) -> None:
    """Its size counts: the VAE's last stage holds full-size activations."""
    runner._memory = 32 * 32 * 16 * 4 * DECODE_BUFFERS  # pixels x channels x bytes x activations
    assert runner.fits(params())
    assert not runner.fits(params(width=40))
    assert [runner.decodes_at_once((32, 32)), runner.decodes_at_once((16, 16))] == [1, 4]


class Allocated(TorchDispatchMode):
    """`peak`: the most bytes of tensors that were alive at one time within this context."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        return out

    def _watch(self, storage: Any) -> None:
        if storage._cdata in self._seen or not storage.nbytes():
            return
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def test_the_memory_of_decoding_is_not_estimated_too_low() -> None:
    """Of a VAE built like those of Stable Diffusion: its last upsampling has twice the last width."""
    pipe = tiny.pipeline()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "block_out_channels": (16, 32, 64, 64),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 8,
    }
    pipe.vae = AutoencoderKL(**sizes)
    runner = ModelRunner(tiny.parts(pipe))
    with torch.no_grad(), Allocated() as allocated:
        runner.images_of([torch.zeros(1, 4, 32, 32)], "full")
    estimate = runner._decode_bytes(256, 256)
    assert 0.6 * estimate < allocated.peak <= estimate


class Short(ModelRunner):
    """Its device has no memory for a whole decode."""

    whole = 0

    def images_of(
        self,
        latents: Sequence[torch.Tensor],
        decoder: str,
        tile: str = "none",
        *,
        in_parts: bool = False,
    ) -> torch.Tensor:
        if not in_parts:
            self.whole += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().images_of(latents, decoder, tile, in_parts=in_parts)


def test_an_image_that_runs_out_of_memory_is_decoded_in_parts() -> None:
    """And says so. Two images are not: the engine decodes each alone first."""
    runner = Short(tiny.parts(tiny.pipeline()))
    requests = requests_of(runner, params(n=2), 0)
    for request in requests:
        runner.start(request)
    with pytest.raises(OutOfMemory):
        runner.decode(requests)
    pixels = runner.decode(requests[:1])[0]()
    assert runner.whole == 2
    vae = runner.parts.vae
    with torch.inference_mode():
        latents = requests[0].state.latents / vae.config.scaling_factor
        tiled = vae.tiled_decode(latents, return_dict=False)[0][0].permute(1, 2, 0)
    assert np.abs(pixels / 255.0 - (tiled / 2 + 0.5).clamp(0, 1).numpy()).max() < 0.003
    assert runner.notes(requests[0])[-1].startswith("decoded_in_parts: ")
    assert "decoded_in_parts" not in str(runner.notes(requests[1]))


def test_guidance_costs_a_row_unless_the_unet_takes_its_scale() -> None:
    """A scale of 1 or less is no guidance."""
    plain = ModelRunner(tiny.shared_parts())
    embedding = ModelRunner(tiny.parts(tiny.pipeline(time_cond_proj_dim=16)))
    assert [plain.guides(params(guidance_scale=g)) for g in (0.0, 1.0, 1.5)] == [False, False, True]
    assert not embedding.guides(params(guidance_scale=8.0))


def test_a_tiny_decoder_that_was_not_loaded_is_a_render_error(runner: ModelRunner) -> None:
    """models.yaml refuses such a draft; an accepted job may be older than the file."""
    parts = tiny.parts(tiny.pipeline())
    parts.tiny_decoder = None
    runner = ModelRunner(parts)
    (request,) = requests_of(runner, params(decoder="tiny"), 0)
    runner.start(request)
    with pytest.raises(RenderError, match="no tiny decoder"):
        runner.decode([request])


def test_rows_are_packed_flat(runner: ModelRunner) -> None:
    """Two for a guided request, the unconditional one first, and one for a plain request."""
    (guided,) = requests_of(runner, params(), 0)
    (plain,) = requests_of(runner, params(guidance_scale=1.0, seed=2), 1)
    for request in (guided, plain):
        runner.start(request)
    rows = rows_of([guided, plain])
    texts = [guided.state.negative, guided.state.positive, plain.state.positive]
    assert [x.data_ptr() for x in rows.texts] == [text.hidden.data_ptr() for text in texts]
    assert [len(x) for x in (rows.samples, rows.timesteps, rows.conditions)] == [3, 3, 3]
    assert rows.guidance == []


def test_a_preview_is_a_picture_of_one_pixel_per_latent(runner: ModelRunner) -> None:
    """Drawn when it is called, not when it is asked for."""
    (request,) = requests_of(runner, params(), 0)
    runner.start(request)
    pixels = runner.preview(request)()
    assert pixels.shape == (tiny.SIZE // 4, tiny.SIZE // 4, 3)
    assert len(np.unique(pixels)) > 1
