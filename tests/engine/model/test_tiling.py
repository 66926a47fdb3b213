"""Pictures that repeat: rolling the noise rolls the picture, seams too, and nobody else changes a bit."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from serve_app.engine.model.tiling import Tiling
from serve_app.engine.request import Request
from tests.engine import tiny
from tests.engine.model.harness import (
    IN_COMPANY,
    Recording,
    alone,
    difference,
    plain,
    requests_of,
    run,
)
from tests.factories import params

FACTOR = 4  # pixels per latent
ROLL = {"x": (0, 6), "y": (4, 0), "both": (4, 6)}  # latents; the UNet halves them once
SEAMLESS, SEAM = 1e-5, 1e-2


class Rolled(Recording):
    """Rolls the noise of the requests in `rolls`, by (down, right) latents."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts)
        self.rolls: dict[Request, tuple[int, int]] = {}

    def start(self, request: Request) -> None:
        super().start(request)
        with torch.inference_mode():
            latents = request.state.latents
            request.state.latents = latents.roll(self.rolls.get(request, (0, 0)), (2, 3))


def drawn_and_rolled(
    parts: Any, company: list[Any], roll: tuple[int, int], **order: Any
) -> tuple[Tensor, Tensor]:
    """The same order from its noise and from rolled noise, the former rolled afterwards."""
    runner = Rolled(parts)
    wanted = params(steps=3, **order)
    one, other = (requests_of(runner, wanted, i)[0] for i in range(2))
    runner.rolls[other] = roll
    others = [requests_of(runner, p, 2 + i)[0] for i, p in enumerate(company)]
    run(runner, [(i % 2, request) for i, request in enumerate([one, *others, other])])
    pixels = (roll[0] * FACTOR, roll[1] * FACTOR)
    return runner.drawn[one].roll(pixels, (1, 2)), runner.drawn[other]


@pytest.mark.parametrize("tile", ROLL)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param((tiny.pipeline, "sd", "full"), id="sd"),
        pytest.param((tiny.xl_pipeline, "sdxl", "full"), id="sdxl"),
        pytest.param((tiny.starter_like, "sd", "full"), id="starter"),
        pytest.param((tiny.pipeline, "sd", "tiny"), id="draft"),
    ],
)
def test_rolling_the_noise_rolls_the_picture(tile: str, kind: Any) -> None:
    """With any decoder. Along the other axis there is a seam, and without `tile` as well."""
    make, family, decoder = kind
    parts = tiny.parts(make(), family=family)
    for asked, seam in ((tile, False), ("none", True)):
        pair = drawn_and_rolled(parts, [], ROLL[tile], tile=asked, decoder=decoder)
        assert (difference(*pair) > SEAM) if seam else (difference(*pair) < SEAMLESS)
    if tile != "both":
        across = ROLL["y" if tile == "x" else "x"]
        assert difference(*drawn_and_rolled(parts, [], across, tile=tile, decoder=decoder)) > SEAM


def test_it_holds_in_company_and_the_company_is_as_ever() -> None:
    """Of orders without tiles, and with tiles along other axes: none of them share a call."""
    parts = tiny.shared_parts()
    others = [params(seed=5), params(seed=6, tile="x", steps=4), params(seed=7, tile="both")]
    pair = drawn_and_rolled(parts, others, ROLL["both"], tile="both")
    assert difference(*pair) < IN_COMPANY
    runner = Recording(parts)
    requests = [requests_of(runner, p, i)[0] for i, p in enumerate([*others, params(tile="y")])]
    run(runner, [(i, request) for i, request in enumerate(requests)])
    for request in requests:
        assert difference(runner.drawn[request], alone(parts, request.params)) <= IN_COMPANY


@contextmanager
def circular(pipe: Any) -> Generator[None]:
    """The plain pipeline's way to tiles: torch's own padding mode of every convolution."""
    convs = [m for n in (pipe.unet, pipe.vae) for m in n.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs:
        conv.padding_mode = "circular"
    try:
        yield
    finally:
        for conv in convs:
            conv.padding_mode = "zeros"


def test_alone_it_is_what_the_plain_pipeline_draws_with_circular_padding() -> None:
    """To the bit. And without tiles every bit is as before, also after tiles were drawn."""
    parts = tiny.parts(tiny.pipeline())
    before = alone(parts, params())
    with circular(parts.pipe):
        expected = plain(parts, params())
    assert torch.equal(alone(parts, params(tile="both")), expected)
    assert torch.equal(alone(parts, params()), before)
    assert torch.equal(plain(parts, params()), before)


@pytest.mark.parametrize("tile", ROLL)
def test_the_encoder_of_a_vae_wraps_around_too(tile: str) -> None:
    """It halves its input by padding at the right and at the bottom only."""
    torch.manual_seed(0)
    vae: Any = tiny.vae().eval()
    image, (down, right) = torch.randn(1, 3, 32, 32), ROLL[tile]
    rolled = image.roll((down * FACTOR, right * FACTOR), (2, 3))
    with torch.no_grad():
        for asked, seam in ((tile, False), ("none", True)):
            with Tiling(vae).along(asked):
                one, other = (vae.encode(x).latent_dist.mean for x in (image, rolled))
            off = difference(one.roll((down, right), (2, 3)), other)
            assert (off > SEAM) if seam else (off < SEAMLESS)


def test_a_call_that_fails_leaves_the_network_as_it_was() -> None:
    """The next order may want no tiles."""
    vae = tiny.vae()
    forwards = [m.forward for m in vae.modules() if isinstance(m, nn.Conv2d)]
    with pytest.raises(RuntimeError, match="out of memory"), Tiling(vae).along("both"):
        raise RuntimeError("out of memory")
    assert not any("_conv_forward" in vars(m) or "forward" in vars(m) for m in vae.modules())
    assert [m.forward for m in vae.modules() if isinstance(m, nn.Conv2d)] == forwards
