"""The starter's recipe end to end, on pictures drawn here: no network, no real training.

It does not judge how well anything is drawn; serve_app/starter/evaluate.py does.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw
from transformers import BertConfig, BertModel, BertTokenizer
from typer.testing import CliRunner

from serve_app.starter import autoencoder, captions, data, denoiser
from serve_app.starter.__main__ import app
from serve_app.starter.evaluate import UNSEEN_WORDS
from serve_app.starter.export import WEIGHTS, export
from serve_app.starter.latents import PatchCode, to_signed
from serve_app.starter.run import (
    Plan,
    RecipeError,
    clock_time,
    half_cosine,
    load_checkpoint,
    previous,
    save_checkpoint,
    wait_while_paused,
    widened,
    write_atomically,
)
from serve_app.starter.text import WIDTH

SHAPES = ("ball", "box", "coin", "gem")
SHADES = ("crimson", "teal", "olive")
CONCEPTS = [captions.Concept((f"{s} {c}", c), ()) for s in SHADES for c in SHAPES]


def drawn(name: str) -> Image.Image:
    shade, shape = name.split()
    image = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    frame = (48, 48, 208, 208)
    if shape in ("ball", "coin"):
        pen.ellipse(frame, fill=shade, outline="black" if shape == "coin" else None, width=12)
    else:
        pen.regular_polygon((128, 128, 90), 4, rotation=45 if shape == "gem" else 0, fill=shade)
    return image


def tiny_text_encoder(folder: Path) -> None:
    """A one-layer BERT of MiniLM's width that knows the words of the captions used here."""
    words = sorted(
        {w for c in CONCEPTS for n in c.names for w in n.split()} | set(captions.COLOURS)
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", ",", *words]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the data command has run: 12 concepts in 8 colours, 96 pictures."""
    folder = tmp_path_factory.mktemp("starter")
    tiny_text_encoder(folder / "raw" / "text_encoder" / "package" / "model")
    data.from_pictures(CONCEPTS, [drawn(c.names[0]) for c in CONCEPTS], folder)
    return folder


@pytest.fixture(scope="module")
def trained(work: Path) -> Path:
    """The same folder after a few steps of both networks."""
    autoencoder.train(work, autoencoder.Training(max_steps=4, batch=1))
    denoiser.train(work, denoiser.Training(max_steps=2, batch=4))
    return work


def test_the_recipe_ends_in_a_plain_diffusers_pipeline_that_draws(
    trained: Path, tmp_path: Path
) -> None:
    """data -> autoencoder -> denoiser -> export -> DiffusionPipeline -> a 128x128 picture."""
    export(trained, tmp_path / "weights")
    pipeline: Any = DiffusionPipeline.from_pretrained(tmp_path / "weights", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a red ball", num_inference_steps=2, generator=generator).images[0]
    assert image.size == (128, 128)
    stored = (tmp_path / "weights" / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    parameters = sum(p.numel() for p in pipeline.unet.parameters())
    assert stored < 2.1 * parameters, "the weights are not stored in fp16"


def test_a_cut_run_goes_on_as_if_it_had_not_been_cut(work: Path, tmp_path: Path) -> None:
    """Two steps, a new process' worth of state, one more step: the same as three in a row."""
    torch.manual_seed(0)
    training = denoiser.Training(batch=2, threads=1)
    examples = denoiser.TrainingSet.prepare(work, seed=0)
    code = PatchCode.load(work)

    def run(folder: Path) -> denoiser.Run:
        torch.manual_seed(0)
        found = denoiser.Run(training, code, folder)
        found.resume()
        return found

    straight = run(tmp_path / "straight")
    losses = [straight.step(examples, 1e-3) for _ in range(3)]
    cut = run(tmp_path / "cut")
    first = [cut.step(examples, 1e-3) for _ in range(2)]
    cut.save()
    resumed = run(tmp_path / "cut")
    assert resumed.steps == 2
    assert [*first, resumed.step(examples, 1e-3)] == pytest.approx(losses, rel=1e-4)


def test_a_new_phase_keeps_the_weights_and_learns_fast_again(trained: Path, tmp_path: Path) -> None:
    """`--again` on a finished run: the same model, the highest rate, a fresh count to its end."""
    shutil.copy(trained / "denoiser.pt", tmp_path)
    code = PatchCode.load(trained)

    def resumed(again: bool) -> denoiser.Run:
        found = denoiser.Run(denoiser.Training(threads=1, again=again), code, tmp_path)
        found.resume()
        return found

    before, after = resumed(again=False), resumed(again=True)
    for old, new in zip(before.unet.parameters(), after.unet.parameters(), strict=True):
        assert torch.equal(old, new)
    assert before.begun == 0 < after.begun == after.seconds
    assert after.pictures == before.pictures


def test_a_smaller_code_grows_without_moving_what_networks_learned(work: Path) -> None:
    """The first channels stay as they are; the picture that comes back is closer."""
    views = np.asarray(data.Pictures.load(work).views[:, 0])
    few = PatchCode(PatchCode.load(work).weight[:8])
    grown = PatchCode.fit(views, kept=few)
    assert torch.equal(grown.weight[:8], few.weight)
    images = to_signed(views)

    def off(code: PatchCode) -> float:
        return (code.decode(code.encode(images)) - images).abs().mean().item()

    assert off(grown) < off(few)


def test_a_smaller_checkpoint_fills_a_larger_model_and_not_the_reverse() -> None:
    """New channels start silent."""
    grown = widened(torch.ones(2, 3), torch.ones(4, 3))
    assert grown.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(RecipeError, match="larger model"):
        widened(torch.ones(4, 3), torch.ones(2, 3))


def test_a_phase_ends_after_its_minutes_or_when_the_clock_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time that was paused away shortens a phase that ends by the clock, and no other."""
    monkeypatch.setattr("serve_app.starter.run.time.time", lambda: 1_000.0)
    assert Plan(minutes=10).progress(300) == pytest.approx(0.5)
    assert Plan(minutes=10, until=1_100.0).progress(300) == pytest.approx(0.75)
    assert Plan(minutes=10, until=1_000.0).progress(300) == 1
    assert half_cosine(0) == 1 > half_cosine(0.5) > half_cosine(1) == pytest.approx(0.02)


def test_a_time_of_day_is_the_next_one(tmp_path: Path) -> None:
    """A time that has passed today means tomorrow; nonsense is named."""
    assert 0 < clock_time("00:00") - time.time() <= 86_400 + 3_600  # an hour when clocks change
    with pytest.raises(RecipeError, match="time of day"):
        clock_time("soon")


def test_captions_are_blended_and_shifted_but_silence_stays(work: Path) -> None:
    """An unconditional caption must be the one that guidance uses when drawing."""
    examples = denoiser.TrainingSet.prepare(work, seed=0)
    config = denoiser.Training(batch=6, unconditional=1.0)
    silent = examples.sample(config, np.random.default_rng(0))[1]
    known = examples.texts[examples.nothing.start :].float()
    assert all(any(torch.equal(text, one) for one in known) for text in silent)
    spoken = examples.sample(
        denoiser.Training(batch=6, unconditional=0.0), np.random.default_rng(0)
    )
    assert not any((examples.texts.float() == text).all((1, 2)).any() for text in spoken[1])


def test_no_caption_holds_a_word_that_the_evaluation_calls_unseen() -> None:
    """Of a phrase, its telling word; `knife` in `stiletto knife` is ordinary."""
    ordinary = {"knife", "explosive", "mountain", "sphere"}
    unseen = {word for phrase in UNSEEN_WORDS for word in phrase.split()} - ordinary
    vocabulary = captions.read_vocabulary(data.VOCABULARY.read_text())
    said = {word for c in vocabulary for name in c.names for word in name.split()}
    assert len(UNSEEN_WORDS) == 60
    assert not unseen & {form for word in said for form in (word, word.removesuffix("s"))}


def test_a_half_written_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage is named, and nothing older is lost."""
    path = tmp_path / "part.pt"
    save_checkpoint(path, {"steps": 1})
    save_checkpoint(path, {"steps": 2})
    path.write_bytes(path.read_bytes()[:100])
    assert load_checkpoint(path) == {"steps": 1}
    assert "part.pt cannot be read" in capsys.readouterr().out
    previous(path).write_bytes(b"")
    assert load_checkpoint(path) is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """The temporary file takes the damage."""
    path = tmp_path / "file"
    write_atomically(path, b"old")
    path.with_name("file.part").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_training_waits_while_the_lock_file_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends when somebody removes the lock."""
    lock = tmp_path / "PAUSE"
    lock.touch()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        lock.unlink()

    monkeypatch.setattr("serve_app.starter.run.time.sleep", nap)
    wait_while_paused(tmp_path)
    assert len(naps) == 1


def test_a_command_says_which_one_must_run_before_it(tmp_path: Path) -> None:
    """Missing data names the command that makes it."""
    result = CliRunner().invoke(app, ["denoiser", "--folder", str(tmp_path)])
    assert isinstance(result.exception, RecipeError)
    assert "starter data" in str(result.exception)


def test_without_a_network_the_data_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm's own failure is quoted, and nothing half-fetched is left behind."""
    command = tmp_path / "npm"
    command.write_text("#!/bin/sh\necho 'getaddrinfo failed' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(RecipeError, match=r"is there a network.*getaddrinfo failed"):
        data.fetch_sources(tmp_path / "raw")
    assert not (tmp_path / "raw" / "pictures").exists()


def test_the_patch_code_is_zero_on_white_and_keeps_the_picture(work: Path) -> None:
    """Background costs the denoiser nothing; the linear decoder already comes close."""
    code = PatchCode.load(work)
    white = torch.ones(1, 3, 128, 128)
    assert code.encode(white).abs().max() < 1e-5
    images = to_signed(np.asarray(data.Pictures.load(work).views[:4, 0]))
    assert (code.decode(code.encode(images)) - images).abs().mean() < 0.1


def test_recolouring_moves_the_hue_and_keeps_the_outline() -> None:
    """What teaches colour words: the same object, another hue."""
    original = drawn("crimson ball")
    green = data.recoloured(original, captions.COLOURS["green"])
    assert green.getchannel("A").tobytes() == original.getchannel("A").tobytes()
    red, greenness, blue, _ = green.getpixel((128, 128))  # type: ignore[misc]
    assert greenness > max(red, blue)


def test_every_line_of_the_vocabulary_names_a_concept_once() -> None:
    """Two concepts must not answer to one label."""
    vocabulary = captions.read_vocabulary(data.VOCABULARY.read_text())
    labels = [concept.names[0] for concept in vocabulary]
    assert len(labels) == len(set(labels)) > 200


@pytest.mark.skipif(not (WEIGHTS / "model_index.json").exists(), reason="no weights shipped yet")
def test_the_shipped_weights_draw_an_object_on_a_plain_background() -> None:
    """The default model of the service loads without a network and leaves its frame white."""
    from serve_app.starter.evaluate import plain_background

    pipeline: Any = DiffusionPipeline.from_pretrained(WEIGHTS, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a red apple", num_inference_steps=20, guidance_scale=3.0, generator=generator)
    assert plain_background(np.asarray(image.images[0]))
