"""A single file becomes a diffusers directory that draws what the file's own pipeline draws, bit by bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.engine.model.importing.convert import Converted, import_checkpoint
from serve_app.engine.model.loading import load
from serve_app.errors import ModelError
from tests.engine import tiny
from tests.engine.model import drawn_from, original_layout
from tests.engine.model.drawn_from import from_picture
from tests.engine.model.harness import alone, plain
from tests.factories import params

SIDE = 32  # pixels

SCHEDULES: dict[str, dict[str, Any]] = {
    "epsilon": {},
    "v": {"prediction_type": "v_prediction"},
    "zero snr": {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
}
MARKS = {"v": ["v_pred"], "zero snr": ["v_pred", "ztsnr"], "epsilon": []}


def spec(folder: Path, family: str, **changes: Any) -> Any:
    listed = ["euler", "ddim"]
    return tiny.spec(
        path=str(folder),
        family=family,
        token_limit=77,
        schedulers=listed,
        dtype="float32",
        **changes,
    )


def drawn(pipe: Any, family: str, **order: Any) -> torch.Tensor:
    """By the plain pipeline that the file was made of."""
    parts = tiny.parts(pipe, family=family)
    return plain(parts, params(scheduler="euler", steps=3, **order))


@pytest.fixture(scope="module", params=["1", "2", "xl"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipe(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return original_layout.pipeline(kind, tmp_path_factory.mktemp(f"tokenizer{kind}"))


def family_of(kind: str) -> str:
    return "sdxl" if kind == "xl" else "sd"


def test_a_file_draws_what_its_pipeline_draws(pipe: Any, kind: str, tmp_path: Path) -> None:
    """In the layout of the original code, which kohya and AUTOMATIC1111 write: SD 1.x, 2.x and SDXL."""
    file = original_layout.save(pipe, kind, tmp_path / "model.safetensors")
    found = import_checkpoint(file, tmp_path / "made")
    assert found.kind.generation == kind
    parts = load(spec(tmp_path / "made", family_of(kind)), tmp_path, device="cpu")
    order = {"prompt": "a Red sword, 1girl!!", "negative_prompt": "blurry"}
    wanted = params(scheduler="euler", steps=3, **order)
    assert torch.equal(alone(parts, wanted), drawn(pipe, family_of(kind), **order))
    assert parts.pipe.vae.config.scaling_factor == pipe.vae.config.scaling_factor


def test_a_file_for_inpainting_draws_what_its_pipeline_draws(tmp_path: Path) -> None:
    """Nine channels: it reads the mask and what is around it."""
    pipe = original_layout.pipeline("1", tmp_path / "tokenizer")
    pipe.unet.conv_in = torch.nn.Conv2d(9, pipe.unet.conv_in.out_channels, 3, padding=1)
    pipe.unet.register_to_config(in_channels=9)
    file = original_layout.save(pipe, "1", tmp_path / "model.safetensors")
    import_checkpoint(file, tmp_path / "made")
    parts = load(spec(tmp_path / "made", "sd"), tmp_path, device="cpu")
    wanted = from_picture(mask=True, strength=0.7)
    expected = drawn_from.plainly(tiny.parts(pipe), wanted)
    assert torch.equal(drawn_from.alone(parts, wanted), expected)


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return original_layout.pipeline("xl", tmp_path_factory.mktemp("xl"))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_a_file_predicts_is_read_from_its_marks(
    xl: Any, schedule: str, tmp_path: Path
) -> None:
    """The empty tensors `v_pred` and `ztsnr`, as trainers add them; from_single_file overlooks both."""
    pipe, own = xl, xl.scheduler
    extra = {mark: torch.zeros(0) for mark in MARKS[schedule]}
    file = original_layout.save(pipe, "xl", tmp_path / "model.safetensors", extra)
    found = import_checkpoint(file, tmp_path / "made")
    assert found.remarks == []
    config = {k: v for k, v in own.config.items() if not k.startswith("_")} | SCHEDULES[schedule]
    pipe.scheduler = type(own).from_config(config)
    try:
        parts = load(spec(tmp_path / "made", "sdxl"), tmp_path, device="cpu")
        expected = drawn(pipe, "sdxl")
    finally:
        pipe.scheduler = own
    assert torch.equal(alone(parts, params(scheduler="euler", steps=3)), expected)
    for name in ("prediction_type", "rescale_betas_zero_snr"):
        assert parts.pipe.scheduler.config[name] == config.get(name, False)


def test_what_is_asked_wins_over_what_a_file_seems_to_predict(xl: Any, tmp_path: Path) -> None:
    """And a remark says that it was."""
    file = original_layout.save(xl, "xl", tmp_path / "model.safetensors")
    found = import_checkpoint(file, tmp_path / "made", predicts="v_prediction")
    assert found.kind.predicts == "v_prediction"
    assert found.remarks == ["the file seems to predict epsilon; taken as v_prediction, as asked"]


# ---- one small file for all that follows ----


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return original_layout.pipeline("1", tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def saved(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return original_layout.save(first, "1", tmp_path_factory.mktemp("file") / "model.safetensors")


@pytest.fixture
def file(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copy(saved, tmp_path / "model.safetensors"))


def test_half_precision_stays_half_precision(first: Any, tmp_path: Path) -> None:
    """To the bit: nobody wants a file twice as large. Weights in 8 bits are the exception, with a remark."""
    tensors = {k: v.half() for k, v in original_layout.tensors_of(first, "1").items()}
    eight = "model.diffusion_model.out.2.weight"
    for name, changed in (("half", {}), ("eight", {eight: tensors[eight].to(torch.float8_e4m3fn)})):
        save_file(tensors | changed, tmp_path / f"{name}.safetensors")
        found = import_checkpoint(tmp_path / f"{name}.safetensors", tmp_path / name)
        stored = load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors")
        assert {value.dtype for value in stored.values()} == {torch.float16}
        assert found.remarks == (
            ["unet: weights in 8 bits are stored as float16"] if changed else []
        )
        expected = (tensors | changed)[eight].half()
        assert torch.equal(stored["conv_out.weight"], expected)


def test_another_vae_is_taken_from_a_file_or_a_directory(
    first: Any, file: Path, tmp_path: Path
) -> None:
    """Of a file that has none, too, which is refused otherwise."""
    torch.manual_seed(5)
    other: Any = original_layout._vae(0.18215, False)
    other.save_pretrained(tmp_path / "vae")
    alone_file = tmp_path / "vae.safetensors"
    save_file(
        {k: v.contiguous() for k, v in original_layout.vae_tensors(other).items()}, alone_file
    )
    original_layout.save(first, "1", file, vae=False)
    with pytest.raises(ModelError, match="holds no VAE; name one with --vae"):
        import_checkpoint(file, tmp_path / "none")
    for name, vae in (("a", tmp_path / "vae"), ("b", alone_file)):
        import_checkpoint(file, tmp_path / name, vae=vae)
        made = load(spec(tmp_path / name, "sd"), tmp_path, device="cpu").pipe.vae
        assert torch.equal(made.decoder.conv_in.weight, other.decoder.conv_in.weight)
        assert torch.equal(
            made.decoder.mid_block.attentions[0].to_q.weight,
            other.decoder.mid_block.attentions[0].to_q.weight,
        )
    with pytest.raises(ModelError, match="is no VAE in the original layout"):
        import_checkpoint(file, tmp_path / "c", vae=file)
    assert not (tmp_path / "c").exists()


def test_what_is_left_out_is_said(first: Any, tmp_path: Path) -> None:
    """A second set of weights, and tensors that nobody knows."""
    extra = {
        "model_ema.diffusion_modelout2weight": torch.zeros(2),
        "mystery.weight": torch.zeros(3),
    }
    file = original_layout.save(first, "1", tmp_path / "model.safetensors", extra)
    remarks = import_checkpoint(file, tmp_path / "made").remarks
    assert [remark.split(",")[0] for remark in remarks] == [
        "its second set of weights (model_ema",
        "1 tensors were not understood and left out",
    ]


def test_progress_ends_with_every_tensor_that_was_read(saved: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    import_checkpoint(saved, tmp_path / "made", progress=lambda *now: seen.append(now))
    assert list(dict.fromkeys(part for part, _, _ in seen)) == ["text_encoder", "unet", "vae"]
    assert [done for _, done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][1] == seen[-1][2]


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def pickled(file: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(3)}}, file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def gigantic(file: Path) -> None:
    file.write_bytes((2**30).to_bytes(8, "little") + file.read_bytes()[8:])


def not_a_number(file: Path) -> None:
    edit(file, lambda t: t["model.diffusion_model.out.2.bias"].fill_(float("nan")))


def no_text(file: Path) -> None:
    tensors = {k: v for k, v in load_file(file).items() if not k.startswith("cond_stage_model")}
    save_file(tensors, file)


def pruned(file: Path) -> None:
    edit(file, lambda t: t.pop("model.diffusion_model.middle_block.1.proj_in.weight"))


def other_shape(file: Path) -> None:
    name = "model.diffusion_model.out.2.bias"
    edit(file, lambda t: t.update({name: torch.zeros(9)}))


def editing(file: Path) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    edit(file, lambda t: t.update({name: torch.zeros(64, 8, 3, 3)}))


def lora(file: Path) -> None:
    save_file(
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 4)}, file
    )


def flux(file: Path) -> None:
    save_file({"model.diffusion_model.double_blocks.0.img_mod.lin.weight": torch.zeros(4)}, file)


def embedding(file: Path) -> None:
    save_file({"emb_params": torch.zeros(1, 64)}, file)


def anything(file: Path) -> None:
    save_file({"weights": torch.zeros(4)}, file)


def edm(file: Path) -> None:
    edit(file, lambda t: t.update({"edm_vpred.sigma_max": torch.zeros(1)}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (pickled, "a pickle .* can run code"),
        (cut, "truncated"),
        (empty, "empty or truncated"),
        (gigantic, "claims a header of 1073741824 bytes"),
        (not_a_number, r"out\.2\.bias holds NaN or infinity"),
        (no_text, "holds no text encoder"),
        (pruned, r"its unet lacks 1 of \d+ weights"),
        (other_shape, r"its unet lacks 1 of \d+ weights, as conv_out.bias"),
        (editing, "reads 8 channels, as checkpoints for editing"),
        (lora, "is a LoRA"),
        (flux, "is a FLUX"),
        (embedding, "is a textual inversion"),
        (anything, "no checkpoint that is known here; its tensors begin with weights"),
        (edm, "the way of EDM"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_cannot_be_drawn_is_refused(
    damage: Callable[[Path], None], reason: str, file: Path
) -> None:
    """With what it is, or what is wrong with it; and nothing half-written stays behind."""
    damage(file)
    before = sorted(file.parent.iterdir())
    with pytest.raises(ModelError, match=reason):
        import_checkpoint(file, file.parent / "made")
    assert sorted(file.parent.iterdir()) == before


def test_nothing_is_overwritten(file: Path, tmp_path: Path) -> None:
    """Neither by an import nor by the rest of one that was killed."""
    (tmp_path / "made").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        import_checkpoint(file, tmp_path / "made")
    (tmp_path / "made").rmdir()
    (tmp_path / ".made.part" / "unet").mkdir(parents=True)
    made: Converted = import_checkpoint(file, tmp_path / "made")
    assert made.folder == tmp_path / "made"
    assert not (tmp_path / ".made.part").exists()
