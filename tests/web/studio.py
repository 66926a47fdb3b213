"""A studio behind the page: what its renderer would do, done when a test says so."""

from __future__ import annotations

import io
from dataclasses import dataclass

import httpx
from PIL import Image, ImageDraw

from tests.api.harness import STEP, Site
from tests.api.studio import draw, worked

COLORS = ("crimson", "teal", "goldenrod", "slateblue", "seagreen", "coral", "navy", "orchid")


def picture(number: int = 0, side: int = 64) -> Image.Image:
    """Each number has a look of its own."""
    image = Image.new("RGB", (side, side), "white")
    shape = ImageDraw.Draw(image)
    shape.ellipse(
        (side // 6, side // 6, side * 5 // 6, side * 5 // 6), COLORS[number % len(COLORS)]
    )
    return image


@dataclass(frozen=True)
class Studio:
    site: Site

    @property
    def url(self) -> str:
        return self.site.url

    def order(self, **order: object) -> str:
        """As another program would."""
        body = {"prompt": "a red potion", "style_id": "icon", **order}
        reply = httpx.post(f"{self.url}/v1/generate", json=body)
        assert reply.status_code == 202, reply.text
        return reply.json()["job_id"]

    def start(self, job: str, fence: int = 1) -> None:
        self.site.do(self.site.world.started, job, fence)

    def step(self, job: str, step: int, fence: int = 1) -> None:
        progress = {**STEP, "value": step / 6, "step": step}
        self.site.do(self.site.world.progress, job, fence, progress)

    def preview(self, job: str, index: int = 0, fence: int = 1) -> None:
        file = io.BytesIO()
        picture(index, 32).save(file, "JPEG")
        self.site.do(self.site.world.preview, job, fence, index, file.getvalue())

    def finish(self, job: str, *numbers: int, fence: int = 1, notes: tuple[str, ...] = ()) -> None:
        """With the pictures of these numbers, and these notes of each."""
        pictures = [picture(number) for number in numbers or (0,)]
        self.site.do(draw, self.site.world, job, pictures, fence, notes)

    def fail(self, job: str, fence: int = 1) -> None:
        self.site.do(self.site.world.fail, job, fence)

    def work(self, job: str) -> None:
        """What the task of a job without a renderer does."""
        self.site.do(worked, self.site.world, job)

    def drawn(self, *numbers: int, **order: object) -> str:
        job = self.order(n=len(numbers), **order)
        self.finish(job, *numbers)
        return job
