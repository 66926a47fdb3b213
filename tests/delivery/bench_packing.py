"""How full pages get and how long a sheet takes. `python -m tests.delivery.bench_packing`

Workload: sprites with sides drawn evenly from 20 to 64 pixels (seed 1), no padding, one page of free
size, one thread. rectpack 0.2.2 gets the page that ours came to, once, with its two best rules: how
many sprites does it place there? It is left out at 2000, where it takes minutes. A sheet is: pack, all
formats, PNG, ZIP.
"""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import rectpack

from serve_app.delivery.archive import files, zipped
from serve_app.delivery.maxrects import Size, pack
from serve_app.delivery.sheet import pack as pack_sprites
from serve_app.delivery.spec import FORMATS, SheetSpec
from serve_app.delivery.sprite import Sprite

RULES: dict[str, Any] = {"Baf": rectpack.MaxRectsBaf, "Bssf": rectpack.MaxRectsBssf}


def sizes(count: int) -> list[Size]:
    r = random.Random(1)
    return [(r.randint(20, 64), r.randint(20, 64)) for _ in range(count)]


def placed_by_rectpack(wanted: list[Size], rule: Any, width: int, height: int) -> int:
    packer: Any = rectpack.newPacker(rotation=False, pack_algo=rule)
    for size in wanted:
        packer.add_rect(*size)
    packer.add_bin(width, height)
    packer.pack()
    return len(packer.rect_list())


def main() -> None:
    noise = np.random.default_rng(1)
    for count in (50, 300, 500, 2000):
        wanted = sizes(count)
        area = sum(width * height for width, height in wanted)
        start = time.perf_counter()
        [page] = pack(wanted, 8192, 0, False)
        took = time.perf_counter() - start
        print(f"{count} sprites: fill {area / (page.width * page.height):.3f} in {took:.2f} s")
        for name, rule in RULES.items() if count <= 500 else ():
            start = time.perf_counter()
            placed = placed_by_rectpack(wanted, rule, page.width, page.height)
            took = time.perf_counter() - start
            print(f"  rectpack {name} in that page: {placed} of {count} in {took:.2f} s")
        sprites = [
            Sprite(f"s{i}", noise.integers(0, 256, (h, w, 4), dtype=np.uint8))
            for i, (w, h) in enumerate(wanted)
        ]
        start = time.perf_counter()
        data = zipped(files(pack_sprites(sprites, SheetSpec(formats=FORMATS))))
        print(
            f"  sheet, all formats: {time.perf_counter() - start:.2f} s, {len(data) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
