"""A studio at work on a World: orders are drawn as given pictures, and work without a renderer is done."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import httpx
from PIL import Image

from serve_app.artifacts.folder import OutputDir
from serve_app.jobs.attempt import store_images
from serve_app.messages import ImageFile, Outcome, Rendered
from serve_app.params import GenerationParams
from serve_app.tasks.bodies import BODIES
from serve_app.tasks.generate import finish_drawn
from serve_app.tasks.work import Work, run_body
from tests.api.harness import ordered
from tests.factories import rendered_image
from tests.jobs.harness import World


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sprite(size: tuple[int, int] = (12, 10), rim: int = 2, seed: int = 0) -> Image.Image:
    """Noise with a transparent rim."""
    image = Image.effect_noise(size, 90 + seed).convert("RGBA")
    alpha = Image.new("L", size, 0)
    alpha.paste(255, (rim, rim, size[0] - rim, size[1] - rim))
    image.putalpha(alpha)
    return image


def output_of(world: World) -> OutputDir:
    return OutputDir(world.files.root)


async def drawn(
    world: World, client: httpx.AsyncClient, *pictures: Image.Image, **order: Any
) -> str:
    """The id of a job whose images are these."""
    job_id = (await ordered(client, n=len(pictures), **order))["job_id"]
    await draw(world, job_id, pictures)
    return job_id


async def draw(
    world: World,
    job_id: str,
    pictures: Sequence[Image.Image],
    fence: int = 1,
    notes: Sequence[str] = (),
) -> None:
    ticket = await world.launched(job_id, fence)
    await world.started(job_id, fence)
    params = GenerationParams.model_validate(ticket["params"])
    images: list[ImageFile] = []
    for index, picture in enumerate(pictures):
        image = rendered_image(
            index=index,
            seed=params.seed_of(index),
            width=picture.width,
            height=picture.height,
            has_alpha=picture.mode == "RGBA",
            data=png(picture),
            notes=[*notes],
        )
        images.append(output_of(world).write(image, params, job_id, fence))
    assert await world.finish(job_id, fence, images)


async def finished(
    world: World, job_id: str, *pictures: Image.Image, fence: int = 1, **made_by: Any
) -> Outcome:
    """Do what the Ray task does when a renderer, which says so of itself, has drawn these pictures."""
    ticket = await world.launched(job_id, fence)
    await world.started(job_id, fence)
    params = GenerationParams.model_validate(ticket["params"])
    images = [
        rendered_image(
            index=index,
            seed=params.seed_of(index),
            width=picture.width,
            height=picture.height,
            data=png(picture),
            made_by=made_by,
        )
        for index, picture in enumerate(pictures)
    ]
    rendered = Rendered(images=images, failed=None)
    work = Work(ticket, output_of(world), lambda _: None)
    if ticket["summary"].get("extra_files"):
        outcome = finish_drawn(work, rendered, None)
    else:
        outcome = store_images(ticket, rendered, work.output)
    world.launcher.end(job_id, fence, outcome)
    await world.ended(job_id)
    return outcome


async def worked(world: World, job_id: str, fence: int = 1) -> Outcome:
    """Do what the Ray task of a job without a renderer does."""
    ticket = await world.launched(job_id, fence)
    await world.started(job_id, fence)
    work = Work(ticket, output_of(world), lambda _: None)
    outcome = run_body(BODIES[ticket["summary"]["kind"]], work)
    world.launcher.end(job_id, fence, outcome)
    await world.ended(job_id)
    return outcome
