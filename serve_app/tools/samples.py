"""Draws the sample pictures on the style cards of the page: one for each style, by a service that runs.

    python -m serve_app.tools.samples --server http://127.0.0.1:8000

Knows the service as a client does. Once a service has drawn in a style, the page shows that instead.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from PIL import Image

from serve_app.client import Client
from serve_app.config import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "serve_app/web/samples"
SIDE = 128
QUALITY = 80
PROMPT, SEED = "a red potion", 7
PROMPTS = {
    "none": ("a friendly robot", 7),
    "flat": ("an apple", 7),
    "silhouette": ("a wolf", 7),
    "pixel_icon": ("a golden key", 7),
    "item": ("a wooden shield", 7),
    "weapon": ("a sword", 7),
    "prop": ("a castle", 7),
    "creature": ("a dragon", 7),
    "food": ("a mushroom", 7),
    "vehicle": ("a rocket", 7),
    "pixel_character": ("a wizard", 7),
    "tile": ("a brick wall", 7),
}
"""What shows a style well, and a seed; PROMPT and SEED for those that are not named."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with Client(given.server) as client:
        for style in client.styles():
            if style["drawable"]:
                path = given.out / f"{style['style_id']}.webp"
                path.write_bytes(sample(client, style["style_id"]))
                print(path)
    write_index(given.out)


def sample(client: Client, style: str) -> bytes:
    prompt, seed = PROMPTS.get(style, (PROMPT, SEED))
    job = client.wait(client.generate(prompt, style_id=style, seed=seed, effects=[]).job_id)
    with Image.open(io.BytesIO(client.fetch(job.images[0].url))) as picture:
        small = picture.convert("RGB")
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def write_index(folder: Path) -> None:
    """The page asks only for samples that are there."""
    names = sorted(path.stem for path in folder.glob("*.webp"))
    text = json.dumps(names, indent=2)
    (folder / "index.js").write_text(
        "/** Styles of which there is a sample. Written by `python -m serve_app.tools.samples`. */\n"
        f"export const SAMPLES = new Set({text});\n"
    )


if __name__ == "__main__":
    main()
