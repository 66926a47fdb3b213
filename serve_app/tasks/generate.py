"""generate: what was drawn becomes files and, with effects or gates, finished ones; or it is drawn again.

Knows the order of seeds: image i is drawn with seed + i, and redraws take the seeds after those of all
images, by round and then by index, so the whole job can be drawn again. Knows nothing of Ray.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any

from PIL import Image

from serve_app.artifacts.imprint import prints_of
from serve_app.errors import QualityFailed
from serve_app.finishing.picture import EffectFailed, Picture
from serve_app.finishing.png import read_png
from serve_app.finishing.require import Fingerprint, Require, fingerprint, judge
from serve_app.messages import (
    ImageFile,
    Outcome,
    Redraw,
    Rendered,
    RenderedImage,
    StoredFile,
)
from serve_app.params import Finishing, GenerationParams
from serve_app.tasks.assets import asset_of
from serve_app.tasks.reproduction import compared
from serve_app.tasks.work import Work, run_steps

log = logging.getLogger("assets.job")


def finish_drawn(work: Work, rendered: Rendered, before: Redraw | None) -> Outcome:
    """`rendered` holds all images of the job, or with `before` those that were drawn again. Never raises;
    unless the outcome is `drawn` or `redraw`, no file of this attempt stays."""
    if before is not None:
        work.stored.extend(path for image in before["images"] for path in _paths(image))
    outcome = run_steps(work, lambda: _finish(work, rendered, before))
    if before is not None and outcome["kind"] != "redraw":
        summary = work.ticket["summary"]
        outcome["extra_work"] = summary["work"] / summary["n"] * before["used"]
    return outcome


def _finish(work: Work, rendered: Rendered, before: Redraw | None) -> Outcome:
    params = GenerationParams.model_validate(work.params)
    finishing = params.finishing
    assert finishing is not None
    number = before["number"] if before else 0  # of this round: 0 is the first drawing
    indices = before["indices"] if before else list(range(params.n))
    best: dict[int, ImageFile] = {
        image["index"]: image for image in (before["images"] if before else [])
    }
    drawn = sorted(rendered["images"], key=lambda image: image["index"])
    if len(drawn) != len(indices):
        raise RuntimeError(f"{len(drawn)} of {len(indices)} images came")
    seconds = (before["run_s"] if before else 0.0) + max(i["render_seconds"] for i in drawn)
    for done, (index, image) in enumerate(zip(indices, drawn, strict=True)):
        work.step("finishing", done, len(indices))
        others = [best[i] for i in sorted(best) if i != index]
        made = _made(work, params, finishing, index, image, number, others)
        best[index] = _better(work, best.get(index), made)
    failing = [index for index in sorted(best) if _failures(best[index])]
    images = [best[index] for index in sorted(best)]
    if failing and number < finishing.redraws:
        first = params.seed + params.n + (before["used"] if before else 0)
        again = params.model_copy(update={"seed": first, "n": len(failing), "finishing": None})
        redraw = Redraw(
            images=images,
            indices=failing,
            number=number + 1,
            used=(before["used"] if before else 0) + len(failing),
            params=again.model_dump(),
            run_s=seconds,
        )
        return Outcome(kind="redraw", reason="", redraw=redraw)
    if failing and finishing.on_fail == "fail":
        worst = _failures(best[failing[0]])
        raise QualityFailed(f"Image {failing[0]}: {' '.join(worst.values())}")
    if finishing.reproduces:
        images = compared(work, images, finishing.reproduces)
    return Outcome(kind="drawn", reason="", images=images, run_s=seconds)


def _made(
    work: Work,
    params: GenerationParams,
    finishing: Finishing,
    index: int,
    image: RenderedImage,
    number: int,
    others: Sequence[ImageFile],
) -> ImageFile:
    """One picture, stored and judged. Raises EffectFailed where a job is to fail of it."""
    # In its metadata the picture has its own seed, wherever in the order of seeds that is.
    own = params.model_copy(update={"seed": image["seed"] - index})
    ticket = work.ticket
    stored = work.output.write({**image, "index": index}, own, ticket["job_id"], ticket["fence"])
    work.stored.append(stored["path"])
    data = work.read_own(stored["path"])
    picture, _ = read_png(data)
    original = StoredFile(
        role="original",
        path=stored["path"],
        content_type=stored["content_type"],
        size_bytes=stored["size_bytes"],
        sha256=stored["sha256"],
        **prints_of(stored),
    )
    made, failures = stored, dict[str, str]()
    made["files"] = [original]
    if finishing.makes_asset:
        origin = {"job_id": ticket["job_id"], "index": index, "sha256": stored["sha256"]}
        try:
            asset = asset_of(data, finishing.effects, finishing.format, origin, work.weights)
        except EffectFailed as error:
            if finishing.on_fail == "fail":
                raise
            failures["effects"] = error.detail
            made["notes"] = [*stored["notes"], f"effect_failed: {error.detail}"]
        else:
            picture = asset.picture
            made = asset.store(
                work, index, image["seed"], original=stored["path"], before=[original]
            )
            made["notes"] = [*stored["notes"], *made["notes"]]
    if finishing.require is not None:
        made["quality"] = _judged(work, picture, finishing.require, failures, number, others)
        made["notes"] += [
            f"require_failed: {name}: {why}" for name, why in made["quality"]["failures"].items()
        ]
    return made


def _judged(
    work: Work,
    picture: Picture,
    require: dict[str, Any],
    failures: dict[str, str],
    number: int,
    others: Sequence[ImageFile],
) -> dict[str, Any]:
    gates = Require.model_validate(require)
    prints = [_print_of(work, other) for other in others] if gates.unique else []
    verdict = judge(picture, gates, prints)
    failed = {**failures, **verdict.failures}
    return {
        "passed": not failed,
        "scores": dict(verdict.scores),
        "failures": failed,
        "redraws": number,
    }


def _print_of(work: Work, image: ImageFile) -> Fingerprint:
    with Image.open(io.BytesIO(work.read_own(image["path"])), formats=["PNG", "WEBP"]) as file:
        return fingerprint(Picture.from_image(file))


def _better(work: Work, held: ImageFile | None, made: ImageFile) -> ImageFile:
    """The one that fails fewer gates; of equals the earlier one. The other's files go."""
    if held is None:
        return made
    kept, gone = (made, held) if len(_failures(made)) < len(_failures(held)) else (held, made)
    if kept is held and "quality" in held and "quality" in made:
        kept = held.copy()
        kept["quality"] = {**held["quality"], "redraws": made["quality"]["redraws"]}
    paths = _paths(gone)
    work.output.remove(paths)
    for path in paths:
        work.stored.remove(path)
    return kept


def _failures(image: ImageFile) -> dict[str, str]:
    return image.get("quality", {}).get("failures", {})


def _paths(image: ImageFile) -> list[str]:
    return [file["path"] for file in image.get("files", [])]
