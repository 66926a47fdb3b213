"""Textual inversions: drawn bit by bit as diffusers draws them, found in prompts as people write them, and
refused where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from serve_app.catalog.embeddings import EmbeddingSpec, load_embeddings, named_in, parts_of
from serve_app.catalog.models import Models
from serve_app.catalog.resolve import Order, resolve
from serve_app.catalog.styles import Styles
from serve_app.catalog.syntax import syntax_notes
from serve_app.config import Settings
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.errors import ConfigError, RenderError
from serve_app.params import GenerationParams
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
from tests.factories import model_spec, params

WIDTH = tiny.text_config().hidden_size


def vectors(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def known(folder: Path, **files: dict[str, Tensor]) -> dict[str, EmbeddingSpec]:
    """What the service finds in the folder, with these files in it."""
    folder.mkdir(exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return load_embeddings(folder)


def order(specs: dict[str, EmbeddingSpec], prompt: str, **changes: Any) -> GenerationParams:
    """As `resolve` makes it for a model of the prompt syntax `weighted`."""
    named = named_in((prompt, changes.get("negative_prompt", "")), specs)
    uses = [{"name": spec.name, "revision": spec.revision} for spec in named]
    said = {"prompt": prompt, "subject": prompt, "embeddings": uses, "prompt_syntax": "weighted"}
    return params(**said, **changes)


def plainly(parts: Any, wanted: GenerationParams) -> Tensor:
    """By the plain pipeline, which knows the same names."""
    return plain(parts, wanted.model_copy(update={"embeddings": ()}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_drawn_as_diffusers_draws_it(tmp_path: Path, dtype: torch.dtype) -> None:
    """One vector and several, in the prompt and in the negative one; alone and in company; and who names none
    is drawn as if there were none."""
    specs = known(
        tmp_path / "e",
        zorb={"emb_params": vectors(3)},
        grue={"<grue>": vectors(1, 1)[0]},
    )
    reference, parts = (tiny.parts(tiny.pipeline().to(dtype)) for _ in range(2))
    reference.dtype = parts.dtype = dtype
    reference.pipe.load_textual_inversion(vectors(3), token="zorb")
    reference.pipe.load_textual_inversion(vectors(1, 1), token="grue")
    parts.embeddings = specs
    both = order(specs, "a red zorb sword", negative_prompt="grue")
    none = order(specs, "a red sword", seed=2)
    assert [use.name for use in both.embeddings] == ["zorb", "grue"]
    assert not none.embeddings
    for wanted in both, none:
        assert torch.equal(alone(parts, wanted), plainly(reference, wanted))
    assert not torch.equal(plainly(reference, both), plainly(parts, both))
    if dtype is not torch.float32:
        return  # in company, half precision rounds otherwise
    runner = Recording(parts)
    arrivals = [(i, requests_of(runner, p, i)[0]) for i, p in enumerate((both, none))]
    run(runner, arrivals)
    for _, request in arrivals:
        expected = plainly(reference, request.params)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


def test_sdxl_reads_vectors_for_both_encoders(tmp_path: Path) -> None:
    """Also where the end of a prompt is found as its largest token, for which no vector is taken."""
    reference = tiny.parts(tiny.xl_pipeline(), family="sdxl")
    parts = tiny.parts(tiny.xl_pipeline(), family="sdxl")
    pipe = reference.pipe
    widths = [
        e.get_input_embeddings().embedding_dim for e in (pipe.text_encoder, pipe.text_encoder_2)
    ]
    small, large = (vectors(2, seed, width) for seed, width in enumerate(widths))
    specs = known(tmp_path / "e", zorb={"clip_l": small, "clip_g": large})
    for vector, encoder, tokenizer in (
        (small, pipe.text_encoder, pipe.tokenizer),
        (large, pipe.text_encoder_2, pipe.tokenizer_2),
    ):
        pipe.load_textual_inversion(vector, token="zorb", text_encoder=encoder, tokenizer=tokenizer)
    parts.embeddings = specs
    wanted = order(specs, "a zorb sword", negative_prompt="blurry")
    assert torch.equal(alone(parts, wanted), plainly(reference, wanted))


def test_weights_count_and_it_is_not_divided(tmp_path: Path) -> None:
    """Twelve words and four vectors do not fit into a window of fourteen: the vectors begin the next one."""
    parts = tiny.parts(tiny.pipeline())
    parts.embeddings = known(tmp_path / "e", zorb={"emb_params": vectors(4)})
    runner = ModelRunner(parts)

    def hidden(prompt: str) -> Tensor:
        return runner.family.positive(order(dict(parts.embeddings), prompt)).hidden

    with torch.inference_mode():
        assert hidden("a sword " * 6 + "zorb").shape[1] == 2 * tiny.TOKENS
        moved, begun = hidden("a sword " * 6 + "zorb"), hidden("a sword " * 6 + "BREAK zorb")
        assert torch.equal(moved, begun)
        assert not torch.equal(hidden("a (zorb:1.4) sword"), hidden("a zorb sword"))
        assert torch.equal(hidden("a embedding:ZORB sword"), hidden("a zorb sword"))


def test_names_are_found_as_words_of_their_own() -> None:
    names = ["hand", "hand-v4", "neg.xl"]
    found = [name for _, name in parts_of("(hand-v4:1.2), shand hands hand-v5 Hand NEG.XL.", names)]
    assert [name for name in found if name] == ["hand-v4", "hand", "neg.xl"]
    assert "".join(text for text, _ in parts_of("a hand, a key", names)) == "a hand, a key"
    assert list(parts_of("a hand", ())) == [("a hand", None)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"two": {"a": vectors(1), "b": vectors(1)}}, "no textual inversion of 1 to 75"),
        ({"long": {"emb_params": vectors(76)}}, "no textual inversion of 1 to 75"),
        ({"odd": {"clip_l": vectors(1), "clip_g": vectors(2)}}, "no textual inversion of 1 to 75"),
        ({"Fox": {"x": vectors(1)}, "fox": {"x": vectors(1)}}, "capitals do not count"),
        ({"a b": {"x": vectors(1)}}, "must be made of letters"),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, files: dict[str, dict[str, Tensor]], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        known(tmp_path, **files)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    known(tmp_path, fox={"emb_params": vectors(2)})
    path = tmp_path / "fox.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ConfigError, match=r"fox\.safetensors is no whole safetensors file"):
        load_embeddings(tmp_path)


def test_what_does_not_fit_fails_its_own_job_only(tmp_path: Path) -> None:
    """Other widths, NaN, and a file that was changed or removed after the order."""
    parts = tiny.parts(tiny.pipeline())
    parts.embeddings = specs = known(
        tmp_path,
        wide={"x": vectors(1, width=WIDTH + 1)},
        nan={"x": torch.full((1, WIDTH), float("nan"))},
        fox={"x": vectors(1)},
        gone={"x": vectors(1)},
    )
    ordered = {name: order(specs, f"a {name}") for name in specs}
    save_file({"x": vectors(1, 9)}, tmp_path / "fox.safetensors")
    (tmp_path / "gone.safetensors").unlink()
    said = {
        "wide": "does not fit this model",
        "nan": "does not fit this model",
        "fox": "is gone or has changed",
        "gone": "is gone or has changed",
    }
    for name, why in said.items():
        with pytest.raises(RenderError, match=f"the textual inversion {name} {why}"):
            alone(parts, ordered[name])
    sound = order({}, "a sword")
    assert torch.equal(alone(parts, sound), plain(parts, sound))


def test_an_order_names_those_of_its_models_family_where_weights_are_read(tmp_path: Path) -> None:
    """And the result says so; where they are not read, `embedding:NAME` is told to be drawn as words."""
    specs = known(
        tmp_path,
        zorb={"emb_params": vectors(1)},
        big={"clip_l": vectors(1), "clip_g": vectors(1)},
    )

    def resolved(**said: Any) -> GenerationParams:
        return resolve(
            Order(prompt="a zorb, big, embedding:zorb", style_id="none", **said),
            styles=Styles({}),
            models=Models({"tiny": model_spec()}, "tiny", embeddings=specs),
            active="tiny",
            revision_of=str,
            limits=Settings(),
        )

    drawn = resolved(prompt_syntax="weighted")
    assert [(use.name, use.revision) for use in drawn.embeddings] == [
        ("zorb", specs["zorb"].revision),
    ]
    assert syntax_notes(drawn) == ["embeddings: zorb stand in the place of words"]
    assert GenerationParams.model_validate_json(drawn.model_dump_json()) == drawn
    words = resolved()
    assert not words.embeddings
    assert "embedding:zorb: drawn as words" in syntax_notes(words)[0]
