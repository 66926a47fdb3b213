"""The starter's recipe end to end, on pictures drawn here: no network, no real training.

It does not judge how well anything is drawn; serve_app/starter/evaluate.py does.
"""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizer
from typer.testing import CliRunner

from serve_app.starter import (
    autoencoder,
    captions,
    classifier,
    data,
    denoiser,
    sources,
    tiles,
    training,
)
from serve_app.starter.__main__ import app
from serve_app.starter.compose import DARK, NO_INK, Composer, Scenes
from serve_app.starter.errors import RecipeError
from serve_app.starter.export import SHARD_BYTES, WEIGHTS, export, pack, unpack
from serve_app.starter.feed import SceneBatch
from serve_app.starter.held_out import FreePrompt, HeldOut
from serve_app.starter.inks import BY_NAME, INKS
from serve_app.starter.latents import CHANNELS, PatchCode
from serve_app.starter.run import (
    Plan,
    clock_time,
    half_cosine,
    load_checkpoint,
    previous,
    save_checkpoint,
    wait_while_paused,
    write_atomically,
)
from serve_app.starter.scenes import Planner, Shares
from serve_app.starter.shelf import Shelf
from serve_app.starter.sprites import CutOut, Sprites
from serve_app.starter.text import WIDTH, shrink
from serve_app.starter.training import Pictures, Training, batches, fit_code

NAMES = ("ball", "box", "coin", "gem")
SHADES = {"ball": "crimson", "box": "teal", "coin": "olive", "gem": "slateblue"}
VOCABULARY = data.ConceptNames.load(captions.read_vocabulary("ball = orb\nbox = crate\ncoin\ngem"))


def drawn(name: str, size: int = 128, shade: str = "") -> Image.Image:
    image = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    fill = shade or SHADES[name]
    if name in ("ball", "coin"):
        pen.ellipse((48, 48, 208, 208), fill=fill)
    else:
        pen.regular_polygon((128, 128, 90), 4, rotation=45 if name == "gem" else 0, fill=fill)
    return image.resize((size, size), Image.Resampling.NEAREST)


def texture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(40, 200, (32, 32, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return Image.fromarray(pixels, "RGBA")


def pictures() -> Iterator[tuple[CutOut, Image.Image]]:
    for name in NAMES:
        for style, look in (("icon", "3d"), ("flat", "flat"), ("flat", "noto")):
            yield CutOut(style, look, 128, (name,)), drawn(name)
        yield CutOut("silhouette", "game", 128, (f"old {name}",)), drawn(name, 128, "black")
        yield CutOut("pixel_icon", "crawl", 32, (name,)), drawn(name, 32)
        yield CutOut("pixel_character", "crawl", 32, (f"{name} man",)), drawn(name, 32)
    yield CutOut("tile", "crawl", 32, ("grass floor", "floor")), texture(0)
    yield CutOut("tile", "crawl", 32, ("brick wall", "wall")), texture(1)


def tiny_text_encoder(folder: Path) -> None:
    """A one-layer BERT of MiniLM's width that knows the words of the captions used here."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", ",", "icon", "game", "red", *NAMES]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


@pytest.fixture(scope="module")
def sprites() -> Sprites:
    return data.collect(pictures(), VOCABULARY, HeldOut.nothing())


@pytest.fixture(scope="module", autouse=True)
def few_pictures() -> Iterator[None]:
    """Fitting the code to as many as the recipe takes is most of a short training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FITTED_TO", 64)
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, sprites: Sprites) -> Path:
    """A folder as the data command leaves it."""
    folder = tmp_path_factory.mktemp("starter")
    tiny_text_encoder(folder / "raw")
    shrink(folder / "raw", folder / "text_encoder")
    sprites.save(folder / "sprites.npz")
    return folder


@pytest.fixture(scope="module")
def trained(work: Path) -> Path:
    """The same folder after a few steps of every network."""
    autoencoder.train(work, Training(max_steps=2, batch=4))
    denoiser.train(work, Training(max_steps=2, batch=4))
    classifier.train(work, Training(max_steps=2, batch=4))
    return work


@pytest.fixture(scope="module")
def composer(sprites: Sprites) -> Composer:
    return Composer(sprites, torch.device("cpu"))


def row_of(sprites: Sprites, style: str, name: str) -> int:
    return next(r for r, s in enumerate(sprites.about) if (s.style, s.names[0]) == (style, name))


# ---- the whole recipe ----


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
    assert {p.dtype for p in pipeline.text_encoder.parameters()} == {torch.float32}
    matrices = load_file(tmp_path / "weights" / "text_encoder" / "model.safetensors")
    assert matrices["embeddings.word_embeddings.weight"].dtype == torch.float8_e4m3fn


def test_a_packed_model_comes_back_the_same(trained: Path, tmp_path: Path) -> None:
    """Files below 16 MB that hold the averaged UNet to half precision."""
    pack(trained, tmp_path / "packed")
    files = list((tmp_path / "packed").iterdir())
    assert len(files) > 1
    assert all(file.stat().st_size < SHARD_BYTES + 100_000 for file in files)
    unpack(tmp_path / "packed", tmp_path)
    before = (load_checkpoint(trained / "denoiser.pt") or {})["average"]
    after = (load_checkpoint(tmp_path / "denoiser.pt") or {})["average"]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.half(), new.half())


def test_the_judge_is_kept_and_learns_on(trained: Path) -> None:
    """Its names are the concepts that the sprites show; a second run starts from the first."""
    first = classifier.load(trained)
    assert set(first.concepts) == {"ball", "box", "coin", "gem"}
    classifier.train(trained, Training(max_steps=0, batch=4))
    again = classifier.load(trained).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())


def test_a_cut_run_goes_on_as_if_it_had_not_been_cut(work: Path, tmp_path: Path) -> None:
    """Two steps, a new process' worth of state, one more step: the same as three in a row."""
    config = Training(batch=2, warmup_steps=1)
    shown = Pictures(work, "cpu")
    encoder = denoiser.load_text_encoder(work / "text_encoder")[1]
    with batches(work, config, seed=0) as some:
        few: list[SceneBatch] = [next(some) for _ in range(3)]
        code = fit_code(work, shown, some)

    def run(folder: Path) -> denoiser.Run:
        torch.manual_seed(0)
        found = denoiser.Run(config, code, folder, shown, encoder, denoiser.Captioning())
        found.resume()
        return found

    def loss(found: denoiser.Run, batch: SceneBatch) -> float:
        torch.manual_seed(1)  # the composer's
        found.clock.steps += 1
        return found.step(iter([batch]), 1e-3).item()

    straight = run(tmp_path / "straight")
    losses = [loss(straight, batch) for batch in few]
    cut = run(tmp_path / "cut")
    first = [loss(cut, batch) for batch in few[:2]]
    cut.save()
    resumed = run(tmp_path / "cut")
    assert resumed.clock.steps == 2
    assert [*first, loss(resumed, few[2])] == pytest.approx(losses, rel=1e-3)


def test_a_checkpoint_of_the_old_recipe_is_refused(work: Path, tmp_path: Path) -> None:
    """Its layers have other shapes; the message says what to do."""
    save_checkpoint(tmp_path / "denoiser.pt", {"unet": {}, "average": [], "steps": 5})
    code = PatchCode(torch.ones(CHANNELS, 3, 8, 8))
    shown = Pictures(work, "cpu")
    encoder = denoiser.load_text_encoder(work / "text_encoder")[1]
    run = denoiser.Run(Training(), code, tmp_path, shown, encoder, denoiser.Captioning())
    with pytest.raises(RecipeError, match=r"another recipe.*--folder"):
        run.resume()


def test_the_shelf_keeps_the_newest_and_draws_none_twice() -> None:
    """Six rows on a shelf of four: the last four, each once, its parts together."""
    shelf = Shelf(4)
    for start in (0, 2, 4):
        rows = torch.arange(start, start + 2)
        shelf.put(rows.float(), rows * 10)
        assert shelf.filled == min(start + 2, 4)
    drawn, tens = shelf.draw(4, torch.Generator().manual_seed(0))
    assert sorted(drawn.tolist()) == [2, 3, 4, 5]
    assert torch.equal(tens, drawn.long() * 10)


def test_a_picture_is_learned_from_as_often_as_asked(work: Path, tmp_path: Path) -> None:
    """Every third step takes a new batch, and no other does."""
    config = Training(batch=2, reuse=3, warmup_steps=1)
    shown, taken = Pictures(work, "cpu"), 0
    encoder = denoiser.load_text_encoder(work / "text_encoder")[1]
    with batches(work, config, seed=0) as some:
        run = denoiser.Run(
            config, fit_code(work, shown, some), tmp_path, shown, encoder, denoiser.Captioning()
        )

        def counted() -> Iterator[SceneBatch]:
            nonlocal taken
            for batch in some:
                taken += 1
                yield batch

        source = counted()
        for step, expected in enumerate((1, 1, 1, 2)):
            run.clock.steps = step
            noisy, _, texts, target = run.inputs(source)
            assert taken == expected
            assert noisy.shape == target.shape == (2, CHANNELS, 16, 16)
            assert texts.shape == (2, 24, WIDTH)


# ---- bad input ----


def test_a_tar_cut_in_half_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """The archive stays, for it is the user's; no half-filled folder does."""
    picture = tmp_path / "long_sword1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(picture)
    whole, half = tmp_path / "whole.tar.xz", tmp_path / "half.tar.xz"
    with tarfile.open(whole, "w:xz") as tar:
        tar.add(picture, "item/weapon/long_sword1.png")
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "raw").mkdir()
    with pytest.raises(RecipeError, match=r"half\.tar\.xz cannot be unpacked"):
        sources.tile_folder(half, tmp_path / "raw")
    assert half.exists()
    assert not list((tmp_path / "raw").iterdir())


def test_a_set_of_svgs_without_its_licence_is_refused(tmp_path: Path) -> None:
    """No info.json, or one that names another licence: not used."""
    (tmp_path / "icons.json").write_text(json.dumps({"icons": {}}))
    with pytest.raises(RecipeError, match="does not say that it is under MIT"):
        sources.SvgSet.load(tmp_path, "MIT")
    (tmp_path / "info.json").write_text(json.dumps({"license": {"spdx": "proprietary"}}))
    with pytest.raises(RecipeError, match="it says proprietary"):
        sources.SvgSet.load(tmp_path, "MIT")


def test_pictures_of_one_colour_or_without_words_are_left_out_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither could teach anything."""
    blank = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    grey = Image.new("RGBA", (32, 32), (90, 90, 90, 255))
    found = [
        (CutOut("icon", "3d", 128, ("nothing",)), blank),
        (CutOut("tile", "crawl", 32, ("dull wall",)), grey),
        (CutOut("silhouette", "game", 128, ("123",)), drawn("ball", 128, "black")),
        (CutOut("icon", "3d", 128, ("ball",)), drawn("ball")),
    ]
    kept = data.collect(found, VOCABULARY, HeldOut.nothing())
    assert [one.names[0] for one in kept.about] == ["ball"]
    said = capsys.readouterr().out
    assert "one colour" in said
    assert "dull wall" in said
    assert "no words" in said


def test_a_folder_that_holds_no_tiles_is_refused(tmp_path: Path) -> None:
    """The message says what it looked for."""
    with pytest.raises(RecipeError, match="holds no tiles"):
        list(tiles.tile_sprites(tmp_path))


def test_a_vocabulary_line_without_a_name_is_refused() -> None:
    """With its number."""
    with pytest.raises(RecipeError, match="line 2"):
        captions.read_vocabulary("ball\n = orb\n")


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
        sources.fetch_sources(tmp_path / "raw")
    assert not (tmp_path / "raw" / "pictures").exists()


# ---- what is said and shown ----


def test_nothing_that_the_free_prompts_ask_for_is_ever_planned(sprites: Sprites) -> None:
    """No such noun, no such colour on it, no such neighbours, no such style."""
    held_out = HeldOut(
        {
            "attribute": [FreePrompt("a red ball", ("ball",), attribute="red")],
            "pair": [FreePrompt("a coin and a gem", ("coin",), second=("gem",))],
            "style": [FreePrompt("a box, flat icon", ("box",), style="flat")],
        }
    )
    planner = Planner(sprites, held_out, 0, Shares(inked=0.9, paired=0.5))
    scenes, _, _ = planner.plan(4000)
    red = BY_NAME["red"]
    seen_red = seen_pair = 0
    for number in range(4000):
        rows = [row for row in scenes.sprite[number] if row >= 0]
        concepts = [sprites.about[row].concept for row in rows]
        inks = scenes.ink[number, : len(rows)]
        assert not any(c == "ball" and i == red for c, i in zip(concepts, inks, strict=True))
        assert set(concepts) != {"coin", "gem"}
        assert not (scenes.style[number] == "flat" and "box" in concepts)
        seen_red += red in inks
        seen_pair += len(set(concepts)) == 2
    assert min(seen_red, seen_pair) > 20, "the test saw too few to prove anything"


def test_names_with_unseen_words_are_not_given(sprites: Sprites) -> None:
    """A picture that has no other name is left out."""
    held_out = HeldOut({"unseen_noun": [FreePrompt("a katana", ("ball",))]})
    found = [
        (CutOut("icon", "3d", 128, ("katana", "ball")), drawn("ball")),
        (CutOut("icon", "3d", 128, ("big katanas",)), drawn("box")),
    ]
    kept = data.collect(found, VOCABULARY, held_out)
    assert [one.names for one in kept.about] == [("ball",)]


def test_the_free_prompts_are_120_and_name_known_concepts() -> None:
    """Thirty of each kind; the judge can name every noun."""
    kinds = HeldOut.load().kinds
    labels = {c.names[0] for c in captions.read_vocabulary(data.VOCABULARY.read_text())}
    assert {kind: len(prompts) for kind, prompts in kinds.items()} == dict.fromkeys(
        ("attribute", "pair", "unseen_noun", "style"), 30
    )
    for prompt in (p for prompts in kinds.values() for p in prompts):
        assert {*prompt.noun, *prompt.second} <= labels, prompt
        assert not prompt.attribute or prompt.attribute in BY_NAME


def test_captions_say_ink_and_style(sprites: Sprites) -> None:
    """What is seen is said, in words of its own."""
    shares = Shares(inked=1, sized=0, grounded=0, paired=0, counted=1, silent=0, empty_adjective=0)
    scenes, said, _ = Planner(sprites, HeldOut.nothing(), 3, shares).plan(200)
    for number, caption in enumerate(said):
        if scenes.style[number] != "tile":
            assert any(word in caption for word in INKS[scenes.ink[number, 0]].words), caption
        if scenes.style[number] == "silhouette":
            assert "silhouette" in caption


def test_every_line_of_the_vocabulary_names_a_concept_once() -> None:
    """Two concepts must not answer to one label."""
    vocabulary = captions.read_vocabulary(data.VOCABULARY.read_text())
    labels = [concept.names[0] for concept in vocabulary]
    assert len(labels) == len(set(labels)) > 200


def test_an_svg_is_drawn_whole_and_without_a_colour_black() -> None:
    """A wide one is centred on a square."""
    image = data.drawn_svg('<rect width="64" height="32" fill="currentColor"/>', (64, 32))
    assert image.size == (128, 128)
    assert image.getpixel((64, 64)) == (0, 0, 0, 255)
    assert image.getpixel((64, 10)) == (0, 0, 0, 0)


def test_tile_names_are_read_from_files() -> None:
    """Numbers go, the folder's noun is added."""
    assert tiles.names_of("brilliant_blue", "potion") == ("brilliant blue potion", "potion")
    assert tiles.names_of("long_sword1", "") == ("long sword",)
    assert tiles.names_of("spwpn_singing_sword", "") == ("singing sword",)


# ---- pixels ----


def single(sprites: Sprites, style: str, name: str, **fields: Any) -> Scenes:
    scenes = Scenes.empty(1)
    scenes.sprite[0, 0] = row_of(sprites, style, name)
    for field, value in fields.items():
        getattr(scenes, field)[0] = value
    return scenes


def test_pixel_art_lies_on_its_grid_and_smooth_pictures_are_put_on_it(
    sprites: Sprites, composer: Composer
) -> None:
    """Every 4 x 4 pixels are of one colour, so that `pixelate` finds the original."""
    for scenes in (
        single(sprites, "pixel_icon", "coin", pixelated=True),
        single(sprites, "flat", "gem", pixelated=True),
    ):
        image = composer.draw(scenes)[0]
        cells = image.view(3, 32, 4, 32, 4)
        assert torch.equal(cells, cells[:, :, :1, :, :1].expand_as(cells))
        assert image.min() < 0.5


def test_an_ink_changes_the_colour_and_keeps_the_outline(
    sprites: Sprites, composer: Composer
) -> None:
    """By hue, and by a ramp of brightness."""
    plain = composer.draw(single(sprites, "icon", "ball"))[0]
    for name, strongest in (("green", 1), ("icy", 2)):
        inked = composer.draw(single(sprites, "flat", "ball", ink=(BY_NAME[name], NO_INK, NO_INK)))[
            0
        ]
        centre = inked[:, 64, 64]
        assert centre.argmax() == strongest
    ink = (BY_NAME["green"], NO_INK, NO_INK)
    green = composer.draw(single(sprites, "icon", "ball", ink=ink))[0]
    assert torch.equal(green.min(0).values < 0.9, plain.min(0).values < 0.9)


def test_a_rolled_tile_is_the_same_torus(sprites: Sprites, composer: Composer) -> None:
    """So that the model learns no edges."""
    still = composer.draw(single(sprites, "tile", "brick wall"))[0]
    moved = composer.draw(single(sprites, "tile", "brick wall", roll=(8, 20)))[0]
    assert torch.equal(moved, still.roll((8, 20), (1, 2)))


def test_a_ground_is_seen_around_the_object_alone(sprites: Sprites, composer: Composer) -> None:
    """White, dark or a tile."""
    dark = composer.draw(single(sprites, "icon", "ball", ground=DARK))[0]
    white = composer.draw(single(sprites, "icon", "ball"))[0]
    assert dark[:, 0, 0].max() < 0.2 < 1 == white[:, 0, 0].min()
    assert torch.equal(dark[:, 64, 64], white[:, 64, 64])


def test_the_patch_code_is_zero_on_white_and_exact_on_pixel_art(
    sprites: Sprites, composer: Composer
) -> None:
    """Background costs the denoiser nothing; flat cells come back to the last bit that matters."""
    scenes, _, _ = Planner(sprites, HeldOut.nothing(), 0).plan(200)
    code = PatchCode.fit(composer.draw(scenes) * 2 - 1)
    assert code.encode(torch.ones(1, 3, 128, 128)).abs().max() < 1e-5
    cells = torch.rand(1, 3, 32, 32).repeat_interleave(4, 2).repeat_interleave(4, 3) * 2 - 1
    assert (code.decode(code.encode(cells)) - cells).abs().max() < 1e-3


# ---- running ----


def test_a_phase_ends_after_its_minutes_or_when_the_clock_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time that was paused away shortens a phase that ends by the clock, and no other."""
    monkeypatch.setattr("serve_app.starter.run.time.time", lambda: 1_000.0)
    assert Plan(minutes=10).progress(300) == pytest.approx(0.5)
    assert Plan(minutes=10, until=1_100.0).progress(300) == pytest.approx(0.75)
    assert Plan(minutes=10, until=1_000.0).progress(300) == 1
    assert half_cosine(0) == 1 > half_cosine(0.5) > half_cosine(1) == pytest.approx(0.02)


def test_a_time_of_day_is_the_next_one() -> None:
    """A time that has passed today means tomorrow; nonsense is named."""
    assert 0 < clock_time("00:00") - time.time() <= 86_400 + 3_600  # an hour when clocks change
    with pytest.raises(RecipeError, match="time of day"):
        clock_time("soon")


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


@pytest.mark.skipif(not (WEIGHTS / "model_index.json").exists(), reason="no weights shipped yet")
def test_the_shipped_weights_draw_an_object_on_a_plain_background() -> None:
    """The default model of the service loads without a network and leaves its frame white."""
    from serve_app.starter.evaluate import plain_background

    pipeline: Any = DiffusionPipeline.from_pretrained(WEIGHTS, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a red apple", num_inference_steps=20, guidance_scale=3.0, generator=generator)
    assert plain_background(np.asarray(image.images[0]))
