"""A transformer's driver by hand, call by call, and the plain diffusers pipeline as the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from serve_app.engine.model.dit.runner import TransformerRunner
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.request import Request
from serve_app.params import GenerationParams
from tests.engine.model.harness import IN_COMPANY, difference, requests_of, run
from tests.factories import params


class Recording(TransformerRunner):
    """Keeps the images it decoded, as floats, by request."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self.drawn: dict[Request, torch.Tensor] = {}
        self.rows: list[int] = []  # of each call of the network
        call = self.family.call

        def counted(rows: Any) -> Any:
            self.rows.append(len(rows))
            return call(rows)

        self.family.call = counted

    def images(self, requests: Sequence[Request]) -> torch.Tensor:
        images = super().images(requests)
        self.drawn |= dict(zip(requests, images, strict=True))
        return images


def order(**changes: Any) -> GenerationParams:
    usual: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, "scheduler": "flow_euler"}
    return params(**{**usual, **changes})


def reference(parts: ModelParts, wanted: GenerationParams) -> torch.Tensor:
    """One image by the diffusers pipeline itself, called as its card does: (3, height, width) in [0, 1]."""
    call: dict[str, Any] = {"guidance_scale": wanted.guidance_scale}
    if parts.spec.family in ("sd3", "z_image", "sana"):
        call["negative_prompt"] = wanted.negative_prompt
    if parts.spec.family == "sana":
        call["use_resolution_binning"] = False
    if parts.spec.family == "qwen_image":
        call = {
            "negative_prompt": wanted.negative_prompt or " ",
            "true_cfg_scale": wanted.guidance_scale,
        }
    return parts.pipe(
        prompt=wanted.prompt,
        width=wanted.width,
        height=wanted.height,
        num_inference_steps=wanted.steps,
        max_sequence_length=parts.spec.token_limit,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        output_type="pt",
        **call,
    ).images[0]


def drawn(parts: ModelParts, wanted: Sequence[GenerationParams]) -> tuple[list[Any], list[int]]:
    """Images of orders that arrive one call after the other, and the rows of each call."""
    runner = Recording(parts)
    arrivals = [(i, requests_of(runner, one, i)[0]) for i, one in enumerate(wanted)]
    run(runner, arrivals)
    return [runner.drawn[request] for _, request in arrivals], runner.rows


def compare(parts: ModelParts, orders: Sequence[GenerationParams]) -> list[int]:
    """Each alone bit-identical to its reference, and in company almost, if the weights are in full precision.
    Returns the rows of each call in company."""
    references = [reference(parts, one) for one in orders]
    for one, expected in zip(orders, references, strict=True):
        assert torch.equal(drawn(parts, [one])[0][0], expected)
    together, rows = drawn(parts, orders)
    assert max(rows) > 2
    if parts.dtype is torch.float32:
        for image, expected in zip(together, references, strict=True):
            assert difference(image, expected) <= IN_COMPANY
    return rows
