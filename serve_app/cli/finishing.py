"""finishing: `assets finish`, effects on a PNG of this machine.

No server is asked. `python -m serve_app.finishing` is the same, with weights of matting and upscaling too.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Annotated

import typer

from serve_app.artifacts.credentials.signing import Signer
from serve_app.cli.options import Sign, home_path
from serve_app.errors import ConfigError, InvalidField
from serve_app.finishing.__main__ import PALETTES, run, words_to_entry
from serve_app.finishing.effects import KINDS


def finish(
    file: Annotated[Path, typer.Argument(parser=home_path, metavar="FILE", help="A PNG.")],
    effect: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable, as 'pixelate width=64'. One of {', '.join(KINDS)}."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=home_path, help="The finished PNG; default: FILE_finished.png, here."
        ),
    ] = None,
    before_after: Annotated[
        Path | None,
        typer.Option(parser=home_path, help="A PNG of both, on checks, black, white and violet."),
    ] = None,
    sign: Sign = None,
) -> None:
    """Cut out, pixelate, recolour, ... a picture, and say what each effect found."""
    signer = None if sign is None else Signer(sign)
    options = Namespace(
        file=file,
        effect=effect or [],
        out=to or Path(f"{file.stem}_finished.png"),
        sheet=before_after,
        palettes=PALETTES,
        matting=None,
        upscaler=[],
    )
    try:
        run(options)
        if signer is not None:
            before, made = file.read_bytes(), options.out.read_bytes()
            ops = [words_to_entry(words, i) for i, words in enumerate(options.effect)]
            signed = signer.sign(
                made, options.out.name, parent=before, parent_title=file.name, effects=ops
            )
            options.out.write_bytes(signed)
    except InvalidField as error:
        allowed = f" Allowed: {', '.join(map(str, error.allowed))}." if error.allowed else ""
        raise ConfigError(f"{error}.{allowed}") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
