"""Weighted and long prompts: embeddings by the formula, drawn bit by bit as the plain pipeline draws them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from serve_app.catalog.emphasis import pieces_of
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.windows import MOST, Window, emphasised, windows_of
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

WEIGHTED: dict[str, Any] = {"prompt_syntax": "weighted"}
LONG = " ".join(["red sword of stone", "blue shield of wood"] * 4)  # 32 tokens: three windows
BEGIN, END, PAD = 2, 3, 0


def make(family: str) -> Any:
    pipe: Any = tiny.xl_pipeline() if family == "sdxl" else tiny.pipeline()
    if family == "sd":  # as of trained encoders, the mean of its output is not zero
        torch.nn.init.constant_(pipe.text_encoder.final_layer_norm.bias, 0.1)
    return tiny.parts(pipe, family=family)


def expected_of(parts: Any, windows: list[tuple[list[str], list[float]]], layer: int) -> Any:
    """The formula, written anew: (embeddings, pooled) of windows of words and their weights."""
    pipe, xl = parts.pipe, parts.spec.family == "sdxl"
    encoders = [pipe.text_encoder, *([pipe.text_encoder_2] if xl else [])]
    both: list[Tensor] = []
    pooled = None
    with torch.inference_mode():
        for encoder in encoders:
            parts_of: list[Tensor] = []
            for number, (words, weights) in enumerate(windows):
                ids = [4 + tiny.WORDS.index(word) for word in words]
                row = [BEGIN, *ids, END] + [PAD] * (tiny.TOKENS - len(ids) - 2)
                factors = [1.0, *weights, 1.0] + [1.0] * (tiny.TOKENS - len(ids) - 2)
                out = encoder(torch.tensor([row]), output_hidden_states=True)
                hidden = out.hidden_states[-layer]
                if not xl:
                    hidden = encoder.final_layer_norm(hidden)
                elif number == 0:
                    pooled = out[0]
                if any(factor != 1 for factor in factors):
                    scaled = hidden * torch.tensor(factors)[None, :, None]
                    hidden = scaled * (hidden.mean() / scaled.mean())
                parts_of.append(hidden)
            both.append(torch.cat(parts_of, 1))
    return torch.cat(both, -1), pooled


def drawn_by_pipeline(parts: Any, positive: Any, negative: Any) -> Tensor:
    """By the plain pipeline, from embeddings."""
    pipe, xl = parts.pipe, parts.spec.family == "sdxl"
    given = {"prompt_embeds": positive[0], "negative_prompt_embeds": negative[0]}
    if xl:
        given |= {
            "pooled_prompt_embeds": positive[1],
            "negative_pooled_prompt_embeds": negative[1],
        }
    return pipe(
        **given,
        num_inference_steps=5,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(1),
        width=32,
        height=32,
        output_type="pt",
    ).images[0]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("skip", [1, 2])
def test_weights_windows_and_clip_skip_are_drawn_by_the_formula(family: str, skip: int) -> None:
    """Alone, bit by bit what the plain pipeline draws from these embeddings; the shorter prompt is filled up
    with empty windows."""
    parts = make(family)
    wanted = params(
        prompt="a (red:1.4) sword BREAK (icon) of [stone]",
        negative_prompt="(blurry:1.2)",
        clip_skip=skip,
        **WEIGHTED,
    )
    layer = max(skip, 2) if family == "sdxl" else skip
    first = (["a", "red", "sword"], [1, 1.4, 1])
    second = (["icon", "of", "stone"], [1.1, 1, 1 / 1.1])
    positive = expected_of(parts, [first, second], layer)
    negative = expected_of(parts, [(["blurry"], [1.2]), ([], [])], layer)
    assert torch.equal(alone(parts, wanted), drawn_by_pipeline(parts, positive, negative))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_plain_prompt_is_the_same_with_weights_on(family: str) -> None:
    """Bit by bit, whatever the model's default: words are words."""
    parts = make(family)
    wanted = params(negative_prompt="blurry")
    before = plain(parts, wanted)
    assert torch.equal(alone(parts, wanted), before)
    assert torch.equal(alone(parts, wanted.model_copy(update=WEIGHTED)), before)


def test_without_weights_every_sign_is_a_word() -> None:
    """And what is beyond the tokens is cut, as ever."""
    parts = make("sd")
    for prompt in ("a (red:1.4) sword", LONG):
        wanted = params(prompt=prompt)
        assert torch.equal(alone(parts, wanted), plain(parts, wanted))


def test_long_prompts_in_company() -> None:
    """Prompts of one, two and three windows never share a call, and each draws what it draws alone."""
    parts = make("sd")
    orders = [
        params(prompt=LONG, **WEIGHTED),
        params(prompt=LONG, seed=2, steps=4, **WEIGHTED),
        params(prompt="a (red:1.3) sword", seed=3, **WEIGHTED),
        params(prompt="a red BREAK sword", seed=4, guidance_scale=1.0, **WEIGHTED),
        params(seed=5),
    ]
    runner = Recording(parts)
    requests = [requests_of(runner, order, i)[0] for i, order in enumerate(orders)]
    run(runner, [(i // 2, request) for i, request in enumerate(requests)])
    assert [request.key.windows for request in requests] == [3, 3, 1, 2, 1]
    for request in requests:
        assert difference(runner.drawn[request], alone(parts, request.params)) <= IN_COMPANY


def notes_of(**order: Any) -> list[str]:
    runner = ModelRunner(make("sd"))
    (request,) = requests_of(runner, params(**order), 0)
    runner.start(request)
    return runner.notes(request)


def test_eight_windows_are_read_and_no_more() -> None:
    """Of 5,000 tokens the rest is cut, with a note that counts."""
    assert notes_of(prompt=LONG, **WEIGHTED) == []
    note, _ = notes_of(prompt="red " * 5000, subject="red", **WEIGHTED)
    assert note == f"prompt_truncated: {MOST * 14} of 5000 tokens used"


def test_a_window_whose_mean_is_nothing_is_only_weighted() -> None:
    """To bring it back to its mean would divide by zero."""
    hidden = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    window = Window([1, 2], [1.0, 1.5], 2)
    assert torch.equal(emphasised(hidden, window), torch.tensor([[[1.0, -1.0], [3.0, -3.0]]]))


def test_a_prompt_is_cut_into_windows_of_the_encoders_length() -> None:
    """Each with its own marks; BREAK begins one early."""
    tokenizer = tiny.tokenizer()
    found = windows_of(tokenizer, pieces_of(f"{LONG} BREAK red"))
    assert [window.length for window in found.windows] == [16, 16, 6, 3]
    assert {(w.tokens[0], len(w.tokens), len(w.weights)) for w in found.windows} == {
        (BEGIN, tiny.TOKENS, tiny.TOKENS)
    }
    assert (found.used, found.tokens) == (33, 33)


def test_a_bert_encoder_reads_windows_too() -> None:
    """The starter's: it reads its attention mask, and has no norm after its last layer."""
    parts = tiny.parts(tiny.starter_like())
    wanted = params(prompt=LONG, clip_skip=2, **WEIGHTED)
    assert alone(parts, wanted).isfinite().all()
    one = params(prompt="a red sword")
    assert torch.equal(alone(parts, one.model_copy(update=WEIGHTED)), plain(parts, one))
