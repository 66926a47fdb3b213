"""What differs between families: texts, extra inputs of the UNet, and the scale of latents."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from serve_app.engine.model.families import (
    StableDiffusion,
    StableDiffusionXL,
    Text,
    TextCache,
    count_tokens,
)
from tests.engine import tiny
from tests.factories import params

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def xl_pipe() -> Any:
    return tiny.parts(tiny.xl_pipeline(), family="sdxl").pipe


def test_the_cache_keeps_the_texts_used_last() -> None:
    """And counts hits and misses."""
    cache = TextCache(size=2)
    texts = {word: cache.put(word, Text(torch.zeros(1))) for word in ("red", "blue")}
    assert cache.get("red") is texts["red"]
    cache.put("stone", Text(torch.zeros(1)))
    assert cache.get("blue") is None
    assert cache.get("red") is texts["red"]
    assert (cache.hits, cache.misses) == (2, 1)


def test_tokens_are_counted_without_the_marks() -> None:
    """14 of 16 are left for words; more are cut off."""
    assert count_tokens(tiny.tokenizer(), "a red sword") == (3, 3)
    assert count_tokens(tiny.tokenizer(), "red " * 20) == (14, 20)
    assert Text(torch.zeros(1), None, 14, 20).truncated
    assert not Text(torch.zeros(1), None, 3, 3).truncated


def test_equal_prompts_are_encoded_once() -> None:
    """As positive or negative prompt, of any job."""
    pipe = tiny.shared_parts().pipe
    family = StableDiffusion(pipe, CPU, TextCache())
    text = family.positive(params(prompt="blurry"))
    assert family.negative(params(negative_prompt="blurry")) is text
    assert text.hidden.shape == (1, tiny.TOKENS, 32)
    assert (text.pooled, family.conditions(params(), text)) == (None, {})


@pytest.mark.parametrize("force_zeros", [True, False])
def test_an_empty_negative_prompt_of_sdxl_is_what_the_checkpoint_says(
    xl_pipe: Any, force_zeros: bool
) -> None:
    """Zeros, or the encoding of no words. A negative prompt is always encoded."""
    xl_pipe.register_to_config(force_zeros_for_empty_prompt=force_zeros)
    family = StableDiffusionXL(xl_pipe, CPU, TextCache())
    empty = family.negative(params(negative_prompt=""))
    assert empty.pooled is not None
    assert bool(empty.hidden.any()) is bool(empty.pooled.any()) is not force_zeros
    assert family.negative(params(negative_prompt="blurry")).hidden.any()


def test_sdxl_is_told_the_size_of_the_image(xl_pipe: Any) -> None:
    """Original size, crop corner and target size, as (height, width) each; made once per size."""
    family = StableDiffusionXL(xl_pipe, CPU, TextCache())
    wide = params(width=48)
    given = family.conditions(wide, family.positive(wide))
    assert given["time_ids"].tolist() == [[32, 48, 0, 0, 32, 48]]
    assert given["text_embeds"].shape == (1, 32)
    again = params(width=48, prompt="a blue shield")
    assert family.conditions(again, family.positive(again))["time_ids"] is given["time_ids"]


def test_latents_are_unscaled_as_the_vae_says() -> None:
    """By one factor; SDXL checkpoints may also give mean and deviation for each channel."""
    latents = torch.ones(1, 4, 2, 2)
    vae = tiny.vae()
    vae.register_to_config(scaling_factor=0.5)
    parts = tiny.parts(tiny.xl_pipeline(), family="sdxl")
    family = StableDiffusionXL(parts.pipe, CPU, TextCache())
    assert torch.equal(family.unscale(latents, vae), torch.full_like(latents, 2.0))
    vae.register_to_config(latents_mean=[1.0, 2.0, 3.0, 4.0], latents_std=[0.5] * 4)
    unscaled = family.unscale(latents, vae)
    assert unscaled[0, :, 0, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
