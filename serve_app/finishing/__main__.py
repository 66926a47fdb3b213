"""python -m serve_app.finishing: effects on any PNG, without the service.

Knows nothing of jobs. `--effect` takes an operation and its fields as words: `pixelate width=64`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from serve_app.errors import InvalidField, ServiceError
from serve_app.finishing.base import Weights
from serve_app.finishing.effects import KINDS, parse_effects, with_palettes
from serve_app.finishing.finish import Finished, finish
from serve_app.finishing.looks import before_after
from serve_app.finishing.palette_files import load_palette, load_palettes
from serve_app.finishing.png import read_png, write_png

PALETTES = Path(__file__).resolve().parents[2] / "configs" / "palettes"
_EFFECT_HELP = (
    f"an operation and its fields, such as 'pixelate width=64'; one of {', '.join(KINDS)}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        run(options)
    except InvalidField as error:
        allowed = f" Allowed: {', '.join(map(str, error.allowed))}." if error.allowed else ""
        print(f"{error}.{allowed}", file=sys.stderr)
        return 1
    except (ServiceError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    entries = [words_to_entry(words, i) for i, words in enumerate(options.effect)]
    palettes = load_palettes(options.palettes) if options.palettes.is_dir() else {}
    effects = with_palettes(parse_effects([_with_file(entry) for entry in entries]), palettes)
    before, texts = read_png(options.file.read_bytes())
    done = finish(before, effects, _weights(options))
    options.out.write_bytes(write_png(done.picture, texts))
    for role, pixels in done.picture.files.items():
        Image.fromarray(pixels).save(options.out.with_name(f"{options.out.stem}_{role}.png"))
    if options.sheet:
        before_after(before, done.picture).save(options.sheet)
    _report(done, [effect.op for effect in effects])


def words_to_entry(words: str, position: int) -> dict[str, Any]:
    """`'palette colors=#000000,#ffffff dither=bayer4'` -> the object that an order would hold."""
    try:
        op, *pairs = shlex.split(words)
    except ValueError as error:
        raise InvalidField(
            f"effects.{position}", f"{words!r} does not name an operation"
        ) from error
    entry: dict[str, Any] = {"op": op}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InvalidField(f"effects.{position}.{op}", f"{pair!r} is not field=value")
        entry[name] = _value(text)
    return entry


def _value(text: str) -> Any:
    """Numbers, true and false as JSON reads them; with commas or `#`, a list; everything else as it is."""
    if text.startswith("#") and "," in text:
        return text.split(",")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _with_file(entry: dict[str, Any]) -> dict[str, Any]:
    """A palette named by the path of its file becomes that file's colours."""
    name = entry.get("name")
    if entry["op"] != "palette" or not isinstance(name, str) or not Path(name).is_file():
        return entry
    return {k: v for k, v in entry.items() if k != "name"} | {
        "colors": load_palette(Path(name)).hex
    }


def _weights(options: argparse.Namespace) -> Weights:
    upscalers = {path.stem: path for path in options.upscaler}
    return Weights(matting=options.matting, upscalers=upscalers)


def _report(done: Finished, ops: list[str]) -> None:
    for op, notes in zip(ops, done.notes, strict=True):
        for note in notes:
            print(f"{op}: {note.text}")
    picture = done.picture
    anchor = f", pivot {picture.anchor[0]:.3f} {picture.anchor[1]:.3f}" if picture.anchor else ""
    print(f"{picture.width}x{picture.height}, coverage {picture.coverage:.1%}{anchor}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m serve_app.finishing", description=__doc__)
    parser.add_argument("file", type=Path, help="a PNG")
    parser.add_argument("--effect", action="append", default=[], help=_EFFECT_HELP)
    parser.add_argument("--out", type=Path, required=True, help="the finished PNG")
    parser.add_argument("--sheet", type=Path, help="a PNG of before and after on four grounds")
    parser.add_argument("--palettes", type=Path, default=PALETTES, help="folder of palette files")
    parser.add_argument("--matting", type=Path, help="ONNX weights for `cutout method=network`")
    parser.add_argument(
        "--upscaler", type=Path, action="append", default=[],
        help=".safetensors for `upscale model=NAME`, NAME being the file's",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
