"""Placement: which networks are on a small device, and what a device that is too small is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from serve_app.catalog.models import Memory
from serve_app.engine.model.loading import load
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.placement import GIB, Placement, check_memory
from serve_app.errors import ModelError
from tests.engine import tiny
from tests.engine.model.harness import alone, plain
from tests.factories import params

DEVICE = torch.device("cuda")  # only named: nothing is moved there


class Network:
    """Notes where it was moved."""

    def __init__(self, name: str, moves: list[tuple[str, str]]) -> None:
        self.name, self.moves = name, moves

    def to(self, device: torch.device) -> None:
        self.moves.append((self.name, device.type))


def test_one_group_is_on_the_device_at_a_time() -> None:
    """It stays there until another is needed; then it goes first, and the other comes."""
    moves = list[tuple[str, str]]()
    clip, t5, network = (Network(name, moves) for name in ("clip", "t5", "network"))
    placement = Placement({"text": [clip, t5], "network": [network]}, DEVICE)
    for name in ("text", "text", "network"):
        with placement.on(name):
            moves.append((name, "used"))
    assert moves == [
        ("clip", "cuda"),
        ("t5", "cuda"),
        ("text", "used"),
        ("text", "used"),
        ("clip", "cpu"),
        ("t5", "cpu"),
        ("network", "cuda"),
        ("network", "used"),
    ]


def test_a_group_that_finds_no_memory_goes_back_whole() -> None:
    """What of it has come would stay for ever: nobody knew that it is there."""
    moves = list[tuple[str, str]]()

    class Large(Network):
        def to(self, device: torch.device) -> None:
            super().to(device)
            if device.type == "cuda":
                raise torch.OutOfMemoryError

    placement = Placement(
        {"text": [Network("clip", moves), Large("t5", moves)], "network": []}, DEVICE
    )
    with pytest.raises(torch.OutOfMemoryError), placement.on("text"):
        pass
    assert moves == [("clip", "cuda"), ("t5", "cuda"), ("clip", "cpu"), ("t5", "cpu")]


def test_a_group_is_not_taken_from_whoever_works_with_it() -> None:
    """Another thread waits until it is done; nothing moves meanwhile."""
    moves = list[tuple[str, str]]()
    groups = {name: [Network(name, moves)] for name in ("text", "network")}
    placement = Placement(groups, DEVICE)
    asked, got = threading.Event(), threading.Event()

    def encode() -> None:
        asked.set()
        with placement.on("text"):
            got.set()

    thread = threading.Thread(target=encode)
    with placement.on("network"):
        thread.start()
        assert asked.wait(30)
        assert not got.is_set()
        assert moves == [("network", "cuda")]
    thread.join(30)
    assert got.is_set()
    assert moves == [("network", "cuda"), ("network", "cpu"), ("text", "cuda")]


def test_a_model_that_takes_turns_draws_the_same(tmp_path: Path) -> None:
    """All of its networks but the VAE are in a group."""
    tiny.save(tiny.xl_pipeline(), tmp_path / "xl")
    spec = tiny.spec(path="xl", family="sdxl", cpu_offload="model")
    parts = load(spec, tmp_path, device="cpu")
    groups = ModelRunner(parts).placement._groups
    assert groups == {
        "text": [parts.pipe.text_encoder, parts.pipe.text_encoder_2],
        "network": [parts.pipe.unet],
    }
    wanted = params(steps=3)
    assert torch.equal(alone(parts, wanted), plain(parts, wanted))


def test_a_device_that_is_too_small_is_told_what_is_needed(tmp_path: Path) -> None:
    """Before anything is read, with the way out where there is one."""
    spec = tiny.spec(memory=Memory(whole=36, offloaded=27))
    check_memory(spec, 36 * GIB, 2)
    with pytest.raises(ModelError) as caught:
        check_memory(spec, 30 * GIB, 2)
    assert "needs 36 GiB of the device's memory, and 30.0 GiB are free" in caught.value.detail
    assert "with `cpu_offload: model` it needs 27 GiB" in caught.value.detail
    with pytest.raises(ModelError, match=r"needs 36 GiB .* 20\.0 GiB are free$"):
        check_memory(spec, 20 * GIB, 2)
    offloaded = spec.model_copy(update={"cpu_offload": "model"})
    check_memory(offloaded, 27 * GIB, 2)
    with pytest.raises(ModelError, match=r"needs 54 GiB .* 27\.0 GiB are free$"):
        check_memory(offloaded, 27 * GIB, 4)
    huge = tiny.spec(path="nowhere", memory=Memory(whole=1e6, offloaded=1e6))
    with pytest.raises(ModelError, match="needs 2e\\+06 GiB"):
        load(huge, tmp_path, device="cpu")
