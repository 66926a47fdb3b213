"""orders: `assets generate`, `assets derive` and `assets retry`. They wait, and say where the images are.

Knows the fields of an order; what they mean is the server's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.options import ApiKey, Effects, JobId, Server, To, connect
from serve_app.cli.printing import out, show_notes
from serve_app.cli.watching import wait_and_show
from serve_app.client import SERVER, AssetsError


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    style: Annotated[
        str | None, typer.Option(help="See `assets styles`; default: the server's.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What to keep out.")] = "",
    seed: Annotated[int, typer.Option(help="-1: drawn at random.")] = -1,
    n: Annotated[int, typer.Option("-n", "--n", help="Images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    rescale: Annotated[float | None, typer.Option(help="Guidance rescale, 0 to 1.")] = None,
    tile: Annotated[str | None, typer.Option(help="none, x, y or both: axes that repeat.")] = None,
    syntax: Annotated[str | None, typer.Option(help="plain or weighted: how it is read.")] = None,
    clip_skip: Annotated[int | None, typer.Option(help="2: the last but one layer.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="NAME or NAME:WEIGHT; repeatable.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="A picture to start from; it is uploaded.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="0 to 1: how much of that picture may change.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="What of it is drawn anew: white in this picture.")
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(help="TYPE=FILE or TYPE=FILE:WEIGHT: its shapes are followed; repeatable."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="FILE or FILE:WEIGHT: a picture whose looks are taken up.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    model: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Cheaper, rougher.")] = False,
    effect: Effects = None,
    plain: Annotated[bool, typer.Option("--plain", help="None of the style's effects.")] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(help="A gate, like seam=1.3 or not_blank=true; repeatable."),
    ] = None,
    redraws: Annotated[int | None, typer.Option(help="For what fails a gate.")] = None,
    format: Annotated[str | None, typer.Option(help="png or webp.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="To find it by; repeatable.")] = None,
    cancel_after: Annotated[
        int | None, typer.Option(help="Seconds after which to give it up.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how long.")] = False,
    to: To = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Order images, wait for them, and say where they are."""
    order: dict[str, Any] = {
        "style_id": style,
        "negative_prompt": negative,
        "seed": seed,
        "n": n,
        "size": size,
        "steps": steps,
        "guidance_scale": guidance,
        "guidance_rescale": rescale,
        "tile": tile,
        "prompt_syntax": syntax,
        "clip_skip": clip_skip,
        "loras": [lora_of(text) for text in lora or ()] or None,
        "strength": strength,
        "scheduler": scheduler,
        "model": model,
        "quality": "draft" if draft else None,
        "effects": [] if plain else effects_of(effect),
        "require": gates_of(require),
        "redraws": redraws,
        "format": format,
        "priority": priority,
        "tags": tag or None,
    }
    with connect(server, api_key) as client:
        for field, path in (("init_image", init), ("mask_image", mask)):
            if path is not None:
                order[field] = {"upload_id": client.upload(picture_of(path))["upload_id"]}
        for text in control or ():
            kind, path, weight = control_of(text)
            image = {"upload_id": client.upload(picture_of(path))["upload_id"]}
            one = {"type": kind, "image": image, **({} if weight is None else {"weight": weight})}
            order.setdefault("control", []).append(one)
        if reference is not None:
            path, weight = weighted_path(reference)
            image = {"upload_id": client.upload(picture_of(path))["upload_id"]}
            order["reference"] = {"image": image, **({} if weight is None else {"weight": weight})}
        if dry_run:
            show_estimate(client.estimate(prompt, **order))
        else:
            job = client.generate(prompt, cancel_after_s=cancel_after, **order)
            wait_and_show(client, job, to)


def retry(job_id: JobId, to: To = None, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """Order a finished job once more, wait for it, and say where its images are."""
    with connect(server, api_key) as client:
        wait_and_show(client, client.retry(job_id), to)


def derive(
    job_id: JobId,
    effect: Effects = None,
    image: Annotated[
        list[int] | None, typer.Option(help="Its index; repeatable. Default: all.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="png or webp.")] = None,
    to: To = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Finish a job's pictures again, without drawing, and say where they are."""
    effects = effects_of(effect)
    if effects is None:
        raise AssetsError("name at least one effect: --effect trim")
    with connect(server, api_key) as client:
        job = client.derive(job_id, effects, indices=image, format=format)
        wait_and_show(client, job, to)


def control_of(text: str) -> tuple[str, Path, float | None]:
    """`canny=edges.png:0.8`: type, file and weight; None: it is not said."""
    kind, equals, rest = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--control {text}: write it like canny=edges.png")
    return kind, *weighted_path(rest)


def weighted_path(text: str) -> tuple[Path, float | None]:
    """`edges.png:0.8`: file and weight; None: it is not said."""
    path, colon, weight = text.rpartition(":")
    try:
        return (Path(path), float(weight)) if colon else (Path(text), None)
    except ValueError:  # a colon of the file's own name
        return Path(text), None


def picture_of(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise AssetsError(f"{path}: {error.strerror}") from error


def effects_of(texts: list[str] | None) -> list[dict[str, Any]] | None:
    """Each is the name of an operation, or an effect as JSON."""
    if not texts:
        return None
    found: list[dict[str, Any]] = []
    for text in texts:
        if not text.lstrip().startswith("{"):
            found.append({"op": text.strip()})
            continue
        try:
            found.append(json.loads(text))
        except ValueError as error:
            raise AssetsError(f"--effect {text}: not JSON ({error})") from error
    return found


def gates_of(texts: list[str] | None) -> dict[str, Any] | None:
    """`name=value`; the value is JSON."""
    if not texts:
        return None
    gates: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            gates[name] = json.loads(value)
        except ValueError as error:
            raise AssetsError(f"--require {text}: write it like seam=1.3") from error
    return gates


def show_estimate(estimate: Mapping[str, Any]) -> None:
    if not estimate["possible"]:
        raise AssetsError(f"not possible: {estimate['reason']}")
    seconds = estimate["estimated_seconds"]
    out.print("possible, time unknown" if seconds is None else f"possible, about {seconds:.1f} s")
    show_notes(estimate.get("notes", []))


def lora_of(text: str) -> dict[str, Any]:
    """`ink:0.8` as an order has it. What is no number the server refuses by name."""
    name, colon, weight = text.rpartition(":")
    if not colon:
        return {"name": text}
    try:
        return {"name": name, "weight": float(weight)}
    except ValueError as error:
        raise typer.BadParameter(f"--lora {text}: {weight!r} is no number") from error
