"""The matting network: real onnxruntime on a tiny network that is made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serve_app.finishing import network
from serve_app.finishing.base import Weights
from serve_app.finishing.cutout import Cutout
from serve_app.finishing.picture import EffectFailed
from tests.finishing.sprites import noise_ground, opaque


def redness(path: Path, side: int = 64, channels: int = 3, low: float = 0.1) -> Path:
    """A network whose mask is the red channel between `low` and `low` + 0.4, of its -0.5..0.5."""
    entry = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, channels, side, side])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 1, side, side])
    nodes = [
        helper.make_node("Slice", ["in", "zero", "one", "axis"], ["red"]),
        helper.make_node("Sub", ["red", "low"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "floor", "roof"], ["out"]),
    ]
    values = {"low": low, "steep": 2.5, "floor": 0.0, "roof": 1.0}
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in values.items()]
    constants += [
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in {"zero": 0, "one": 1, "axis": 1}.items()
    ]
    graph = helper.make_graph(nodes, "redness", [entry], [out], constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_the_network_cuts_what_the_matte_cannot(tmp_path: Path) -> None:
    made = noise_ground()
    weights = Weights(matting=redness(tmp_path / "red.onnx"))
    result = Cutout().apply(made.drawn, weights)
    agree = (result.alpha > 127) == (made.truth.alpha > 127)
    assert agree.mean() > 0.98
    assert result.notes[-1].code == "cutout"


def test_a_faint_outline_is_left_to_the_network(tmp_path: Path) -> None:
    """A pale subject on white: the matte would cut along nothing."""
    rgb = np.full((96, 96, 3), (100.0, 255, 255))
    rgb[20:70, 30:60] = (112, 255, 255)
    matte = Cutout().apply(opaque(rgb))
    weights = Weights(matting=redness(tmp_path / "red.onnx", low=-0.3))
    by_network = Cutout().apply(opaque(rgb), weights)
    assert "cutout_uncertain" in [note.code for note in matte.notes]
    assert (
        "by the network" in by_network.notes[-1].text or by_network.notes[-1].code == "cutout_full"
    )
    assert "cutout_uncertain" not in [note.code for note in by_network.notes]


def test_a_mask_is_between_zero_and_one_at_the_pictures_size(tmp_path: Path) -> None:
    mask = network.mask(noise_ground().drawn.rgb, redness(tmp_path / "red.onnx"))
    assert mask.shape == (96, 96)
    assert 0 <= mask.min() <= mask.max() <= 1


def test_the_network_can_be_asked_for_where_the_matte_would_do(tmp_path: Path) -> None:
    rgb = np.full((32, 32, 3), 255, np.uint8)  # all red enough
    pixels = network.cut(rgb, redness(tmp_path / "red.onnx"))
    assert (pixels[..., 3] == 255).all()


def test_a_file_replaced_by_another_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "red.onnx"
    before = network.mask(noise_ground().drawn.rgb, redness(path))
    redness(path, low=-0.5)
    after = network.mask(noise_ground().drawn.rgb, path)
    assert after.mean() > before.mean()


def test_weights_that_are_missing_are_a_clear_failure(tmp_path: Path) -> None:
    with pytest.raises(EffectFailed, match="cannot be loaded"):
        network.cut(noise_ground().drawn.rgb, tmp_path / "none.onnx")


def test_weights_that_are_no_network_are_a_clear_failure(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(EffectFailed, match="cannot be loaded"):
        network.cut(noise_ground().drawn.rgb, path)
