"""assets models import: from a downloaded file to a served model, and nothing left by one that fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from serve_app.catalog.models import load_models
from serve_app.catalog.resolve import Order, resolve
from serve_app.catalog.revision import weights_revision
from serve_app.catalog.styles import load_styles
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.engine.build import build
from serve_app.engine.model.loading import load
from serve_app.errors import ConfigError
from tests.cli.harness import run
from tests.engine.model import original_layout
from tests.engine.model.dit import tiny as dit
from tests.engine.model.harness import alone, difference
from tests.engine.model.test_loras import kohya
from tests.factories import params


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints as they are passed on."""
    folder = tmp_path_factory.mktemp("downloads")
    pipe = original_layout.pipeline("1", folder / "tokenizer")
    original_layout.save(pipe, "1", folder / "Dream Shaper.safetensors")
    pipe.save_pretrained(folder / "directory")
    pipe = original_layout.pipeline("xl", folder / "tokenizer_xl")
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    original_layout.save(pipe, "xl", folder / "NoobAI.safetensors", marks)
    (folder / "broken.safetensors").write_bytes(b"PK\x03\x04\0\0\x08\x08 archive/data.pkl")
    return folder


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models file and the styles of the project, and a working directory."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in ("models.yaml", "styles.yaml"):
        shutil.copy(PROJECT_ROOT / "configs" / name, folder / name)
    monkeypatch.setenv("ASSETS_MODELS_FILE", str(folder / "models.yaml"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_downloaded_file_is_served_with_the_styles_of_its_kind(
    files: Path, configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command, a picture as proof, and the next step; then a renderer starts with it."""
    source, to = str(files / "Dream Shaper.safetensors"), configs.parent / "weights"
    assert run("models", "import", source, "--name", "dreamshaper", "--to", str(to)) == 0
    printed = capsys.readouterr()
    assert "configs/models.d/dreamshaper.yaml" in printed.out.replace("\n", "")
    assert "ASSETS_MODEL=dreamshaper assets run" in printed.err
    with Image.open("dreamshaper.png") as picture:
        assert picture.size == (256, 256)
        assert len(picture.getcolors(2**16) or [0, 1]) > 1
    models = load_models(configs / "models.yaml")
    spec = models["dreamshaper"]
    assert (spec.title, spec.family, spec.like) == ("Dream Shaper", "sd", "sd15")
    styles = load_styles(configs / "styles.yaml", models)
    params = resolve(
        Order(prompt="a knight", style_id="character"),
        styles=styles,
        models=models,
        active="dreamshaper",
        revision_of=lambda name: weights_revision(models[name], PROJECT_ROOT),
        limits=Settings(),
    )
    assert (params.width, params.height) == (512, 768)  # as the style says for sd15
    small = spec.model_copy(update={"native_size": (64, 64), "max_rows": 2})
    assert list(build(small, PROJECT_ROOT, device="cpu").served) == ["dreamshaper"]


def test_an_imported_model_changes_no_style_of_the_others(files: Path, configs: Path) -> None:
    """Their revision is recorded in every picture."""
    before = load_styles(configs / "styles.yaml", load_models(configs / "models.yaml"))
    source, to = str(files / "NoobAI.safetensors"), str(configs.parent / "weights")
    assert run("models", "import", source, "--name", "noob", "--to", to, "--no-proof") == 0
    assert not Path("noob.png").exists()
    after = load_styles(configs / "styles.yaml", load_models(configs / "models.yaml"))
    assert after["character"].draws("noob")
    assert not before["character"].draws("noob")
    assert [s.revision for s in after.values()] == [s.revision for s in before.values()]


def test_a_lora_becomes_part_of_the_weights(
    files: Path, configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is drawn is what the file draws with the LoRA; the precision of each network stays."""
    source, plain, inked = files / "Dream Shaper.safetensors", "plain", "inked"
    pipe = original_layout.pipeline("1", configs.parent / "tokenizer")
    lora = configs.parent / "ink.safetensors"
    save_file(kohya(pipe, 1, text=True), lora)
    folder = configs / "loras"
    for name, more in ((plain, ()), (inked, ("--lora", f"{lora}:0.5"))):
        to = str(configs.parent / name)
        assert (
            run("models", "import", str(source), "--name", name, "--to", to, "--no-proof", *more)
            == 0
        )
    assert "ink x 0.5" in capsys.readouterr().err
    folder.mkdir()
    shutil.copy(lora, folder)
    models = load_models(configs / "models.yaml")
    by_name = {name: load(models[name], PROJECT_ROOT, device="cpu") for name in (plain, inked)}
    by_name[plain].loras = models.loras
    use = {"name": "ink", "weight": 0.5, "revision": models.loras["ink"].revision}
    wanted = params(steps=3)
    drawn, expected = (
        alone(by_name[inked], wanted),
        alone(by_name[plain], params(steps=3, loras=[use])),
    )
    assert difference(drawn, expected) < 1e-4
    assert difference(drawn, alone(by_name[plain], wanted)) > 1e-3
    for part in ("unet", "text_encoder"):
        (was,), (now,) = ((configs.parent / n / part).glob("*.safetensors") for n in (plain, inked))
        before, after = load_file(was), load_file(now)
        assert {k: v.dtype for k, v in before.items()} == {k: v.dtype for k, v in after.items()}


@pytest.mark.parametrize(
    ("source", "lora", "said"),
    [
        ("Dream Shaper.safetensors", "nowhere.safetensors", "is not a file"),
        ("Dream Shaper.safetensors", "ink.safetensors:99", "a weight is from -4 to 4"),
        ("Dream Shaper.safetensors", "ink.safetensors:nan", "a weight is from -4 to 4"),
        ("Dream Shaper.safetensors", "broken.safetensors", "is no whole safetensors file"),
        ("directory", "ink.safetensors", "a directory stays as it is"),
        ("NoobAI.safetensors", "ink.safetensors", "was trained for another model"),
    ],
)
def test_a_lora_that_cannot_be_merged_is_refused(
    files: Path, configs: Path, source: str, lora: str, said: str
) -> None:
    """And nothing is left behind."""
    pipe = original_layout.pipeline("1", configs.parent / "tokenizer")
    save_file(kohya(pipe, 1), files / "ink.safetensors")
    to = configs.parent / "weights"
    arguments = ("--name", "mine", "--to", str(to), "--no-proof", "--lora", str(files / lora))
    assert said in str(run("models", "import", str(files / source), *arguments))
    assert not to.exists()
    assert not (configs / "models.d" / "mine.yaml").exists()


def test_v_prediction_gets_what_suits_it(
    files: Path, configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Schedulers that know its schedule, less contrast of guidance; and a guess by the name is said."""
    source, to = str(files / "NoobAI.safetensors"), str(configs.parent / "weights")
    assert run("models", "import", source, "--name", "noob", "--to", to) == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert "it predicts v, on a schedule that ends in pure noise" in said
    assert "guessed from 'Noob' in its name" in said
    spec = load_models(configs / "models.yaml")["noob"]
    assert (spec.guidance_rescale, spec.native_size) == (0.7, (1024, 1024))
    assert spec.prompt_template == "masterpiece, best quality, {prompt}"


def test_a_directory_stays_where_it_is(files: Path, configs: Path) -> None:
    """Only its entry is written."""
    source = files / "directory"
    assert run("models", "import", str(source), "--name", "mine", "--no-proof") == 0
    entry = yaml.safe_load((configs / "models.d" / "mine.yaml").read_text())
    assert (entry["path"], entry["family"]) == (str(source), "sd")
    assert not (PROJECT_ROOT / ".models" / "mine").exists()


def test_a_directory_of_a_transformer_is_entered_as_its_kin(
    configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the sizes and steps of the model of its family that it is most like; it draws its proof."""
    models = configs / "models.yaml"
    models.write_text(re.sub(r"\n *memory: .*", "", models.read_text()))  # it is a tiny one
    source = dit.saved("schnell")
    assert run("models", "import", str(source), "--name", "mine") == 0
    assert "are those of flux_schnell" in capsys.readouterr().err
    entry = yaml.safe_load((configs / "models.d" / "mine.yaml").read_text())
    assert (entry["family"], entry["like"], entry["steps"]) == ("flux", "flux_schnell", 4)
    assert (entry["multiple"], entry["schedulers"]) == (16, ["flow_euler"])
    with Image.open("mine.png") as proof:
        assert proof.size == (256, 256)
    assert load_models(models)["mine"].path == str(source)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["broken.safetensors", "--name", "a"], "a pickle"),
        (["nothing.safetensors", "--name", "a"], "neither a file nor a directory"),
        (["broken.safetensors", "--name", "A b"], "'A b' is no name of a model"),
        (["broken.safetensors", "--name", "starter"], "there is a model 'starter' already"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing_behind(
    arguments: list[str], said: str, files: Path, configs: Path
) -> None:
    """Neither weights nor an entry."""
    source, *rest = arguments
    to = str(configs.parent / "weights")
    assert said in str(run("models", "import", str(files / source), *rest, "--to", to))
    assert sorted(p.name for p in configs.parent.rglob("*")) == [
        "configs",
        "models.yaml",
        "styles.yaml",
    ]


def test_a_model_that_cannot_draw_leaves_nothing_behind(
    files: Path, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file converts, and its picture is not finite: the entry would only fail later."""
    monkeypatch.setattr(
        "serve_app.engine.model.model_runner.ModelRunner.images_of",
        lambda self, latents, *_: torch.full((1, 3, 64, 64), float("nan")),
    )
    source, to = str(files / "Dream Shaper.safetensors"), str(configs.parent / "weights")
    result = str(run("models", "import", source, "--name", "mine", "--to", to))
    assert "draws NaN: its VAE overflows" in result
    assert not Path(to).exists()
    assert not (configs / "models.d").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: sd\n", "x.yaml:1: guidance_scale: is missing"),
        (
            "{family: sd, path: p, native_size: [64, 64], steps: 4, guidance_scale: 1, schedulers: "
            "[euler], like: nobody}",
            "like: no model 'nobody' that others can be like",
        ),
        (
            "{family: sd, path: p, native_size: [63, 64], steps: 4, guidance_scale: 1, schedulers: "
            "[magic]}",
            "63x64 is not made of multiples of 8",
        ),
    ],
)
def test_a_mistake_in_models_d_is_shown_with_its_file(text: str, said: str, configs: Path) -> None:
    """As in models.yaml itself."""
    (configs / "models.d").mkdir()
    (configs / "models.d" / "x.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_models(configs / "models.yaml")
    assert said in caught.value.detail
