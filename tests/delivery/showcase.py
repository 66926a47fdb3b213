"""The two pictures of the READMEs: what finishing makes of the starter's drawings.

    python -m tests.delivery.showcase            # a minute of one core; needs Chromium and npm

`finished.png`: a drawing, cut out, in pixels, and a sheet as Phaser shows it. `looks.png`: twelve drawings,
each with what its style's effects make of it on black, white and violet. One seed for all, nothing chosen.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.config import PROJECT_ROOT
from serve_app.delivery.archive import files
from serve_app.delivery.sheet import pack
from serve_app.delivery.spec import spec_of
from serve_app.delivery.sprite import Sprite
from serve_app.finishing.finish import finish
from serve_app.finishing.looks import in_rows
from serve_app.finishing.picture import Picture
from serve_app.starter.evaluate import Painter
from tests.delivery.conftest import FLAGS, READERS, program

STARTER = PROJECT_ROOT / "serve_app/starter/weights"
OUT = PROJECT_ROOT / "serve_app/finishing"
ORDERS = (
    *(("icon", word) for word in ("apple", "key", "potion", "ghost", "crown")),
    *(("pixel_icon", word) for word in ("sword", "shield", "robot", "castle")),
    *(("item", word) for word in ("book", "bomb")),
    ("weapon", "axe"),
)
SIDE = 128  # pixels of a drawing
SEED = 7
GROUNDS = ((0, 0, 0), (255, 255, 255), (143, 0, 255))
PIXELS: list[dict[str, Any]] = [
    {"op": "cutout"},
    {"op": "pixelate", "width": 32, "height": 32},
    {"op": "palette", "colors": 16},
]

LARGER = {"op": "scale", "factor": 4, "filter": "nearest"}


def main() -> None:
    models = load_models(PROJECT_ROOT / "configs/models.yaml")
    styles = load_styles(PROJECT_ROOT / "configs/styles.yaml", models)
    painter = Painter(STARTER)
    prompts = [styles[style].template_for("starter").format(prompt=word) for style, word in ORDERS]
    drawn = [
        Picture.from_image(Image.fromarray(pixels))
        for pixels in painter.draw(prompts, [SEED] * len(ORDERS))
    ]
    finished = [
        finish(picture, styles[style].effects).picture
        for picture, (style, _) in zip(drawn, ORDERS, strict=True)
    ]
    rows = [
        [squared(picture.to_image().convert("RGB")), *(on(made, ground) for ground in GROUNDS)]
        for picture, made in zip(drawn, finished, strict=True)
    ]
    half = len(rows) // 2
    save([left + right for left, right in zip(rows[:half], rows[half:], strict=True)], "looks.png")
    some = [1, 2, 4]  # of ORDERS
    pixels = [finish(drawn[i], PIXELS).picture for i in some]
    sprites = [
        Sprite(f"{kind}_{ORDERS[i][1]}", picture.pixels)
        for kind, made in (
            ("icon", [finished[i] for i in some]),
            ("pixel", [finish(picture, [LARGER]).picture for picture in pixels]),
        )
        for i, picture in zip(some, made, strict=True)
    ]
    first = some[0]
    shown = [
        squared(drawn[first].to_image().convert("RGB")),
        on(finished[first], None),
        on(pixels[0], None),
        in_phaser(sprites),
    ]
    save([shown], "finished.png")


def on(picture: Picture, ground: tuple[int, int, int] | None) -> Image.Image:
    """Enlarged by a whole factor, in the middle of a square of this colour; None: of checks."""
    image = picture.to_image().convert("RGBA")
    factor = max(1, SIDE // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if ground is None:
        y, x = np.mgrid[:SIDE, :SIDE] // 8
        square = Image.fromarray(np.where((x + y) % 2, 204, 255).astype(np.uint8)).convert("RGBA")
    else:
        square = Image.new("RGBA", (SIDE, SIDE), (*ground, 255))
    square.alpha_composite(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return square.convert("RGB")


def squared(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def in_phaser(sprites: Sequence[Sprite]) -> Image.Image:
    """The sheet of these, each frame drawn by Phaser 4 in Chromium in a cell of its own, on blue."""
    sheet = pack(sprites, spec_of({"formats": ["texturepacker_hash"], "padding": 2}))
    with TemporaryDirectory() as name:
        folder = Path(name)
        wanted = json.loads((READERS / "package.json").read_text())
        only = {**wanted, "dependencies": {"phaser": wanted["dependencies"]["phaser"]}}
        (folder / "package.json").write_text(json.dumps(only))
        flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run([program("npm", "npm"), "install", *flags, "--prefix", name], check=True)
        (folder / "node_modules").rename(folder / "npm")
        for path, data in files(sheet).items():
            (folder / path).write_bytes(data)
        (folder / "phaser.html").write_bytes((READERS / "phaser.html").read_bytes())
        handler = partial(SimpleHTTPRequestHandler, directory=name)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            plan: dict[str, Any] = {
                "load": [["atlas", "sheet", "sheet.png", "sheet.json"]],
                "frames": [sprite.name for sprite in sprites],
                "cell": SIDE,
                "columns": len(sprites) // 2,
                "size": [SIDE * len(sprites) // 2, 2 * SIDE],
            }
            with sync_playwright() as playwright:
                chromium = program("chromium", "chromium")
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{server.server_port}/phaser.html")
                seen = page.evaluate("plan => show(plan)", plan)
                browser.close()
            server.shutdown()
    data = base64.b64decode(seen["picture"].partition(",")[2])
    scene = Image.new("RGBA", (plan["size"][0], plan["size"][1]), (44, 62, 80, 255))
    scene.alpha_composite(Image.open(io.BytesIO(data)).convert("RGBA"))
    return scene.convert("RGB").resize((scene.width // 2, SIDE), Image.Resampling.LANCZOS)


def save(rows: list[list[Image.Image]], name: str) -> None:
    """256 colours: small enough for a page, and no edge changes."""
    image = in_rows(rows).quantize(256, dither=Image.Dither.NONE)
    image.save(OUT / name, optimize=True)
    print(f"{OUT / name}: {(OUT / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
