"""Training pictures from planned scenes: sprites placed, painted, shaded and put on a ground.

It does not know captions, nor how a scene is chosen. Runs in batches on any torch device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .inks import BY_NAME, HUE_RAMPS, INKS, TEXTURES, USUAL
from .sprites import SIZE, Sprites

SLOTS = 3  # most sprites in one scene
NO_INK = -1
DARK = -2  # a ground
CELL = 4  # pixels of one pixel-art pixel
GLOWING = [number for number, ink in enumerate(INKS) if ink.glow]


@dataclass
class Scenes:
    """Arrays of B scenes. Slots that hold nothing have sprite -1; y grows downwards."""

    sprite: np.ndarray  # (B, SLOTS) rows of Sprites
    scale: np.ndarray  # (B, SLOTS) of the sprite's own size
    shift: np.ndarray  # (B, SLOTS, 2) pixels from the centre, x and y
    mirror: np.ndarray  # (B, SLOTS) bool
    ink: np.ndarray  # (B, SLOTS) numbers of INKS, NO_INK
    ground: np.ndarray  # (B,) row of a tile, DARK, or -1 for white
    pixelated: np.ndarray  # (B,) bool: drawn on a grid of CELL pixels
    modelled: np.ndarray  # (B,) 0 as it is; 1 outlines are filled and coloured; 2 and shaded
    roll: np.ndarray  # (B, 2) pixels that a tile is turned by, as on a torus
    style: list[str]  # of STYLES

    @classmethod
    def empty(cls, count: int) -> Scenes:
        return cls(
            sprite=np.full((count, SLOTS), -1, np.int64),
            scale=np.ones((count, SLOTS), np.float32),
            shift=np.zeros((count, SLOTS, 2), np.float32),
            mirror=np.zeros((count, SLOTS), bool),
            ink=np.full((count, SLOTS), NO_INK, np.int64),
            ground=np.full(count, -1, np.int64),
            pixelated=np.zeros(count, bool),
            modelled=np.zeros(count, np.int64),
            roll=np.zeros((count, 2), np.int64),
            style=["icon"] * count,
        )


class Composer:
    """Holds every sprite on `device` and draws scenes with them."""

    def __init__(self, sprites: Sprites, device: torch.device) -> None:
        self.device = device
        self.tiny = torch.tensor([one.size != SIZE for one in sprites.about], device=device)
        self.bank = torch.empty(len(sprites.about), 4, SIZE, SIZE, dtype=torch.uint8, device=device)
        for size in (SIZE, SIZE // CELL):
            rows, pixels = sprites.pixels(size)
            if rows:
                large = pixels.repeat(SIZE // size, 1).repeat(SIZE // size, 2)
                planes = torch.from_numpy(np.ascontiguousarray(large.transpose(0, 3, 1, 2)))
                self.bank[rows] = planes.to(device)
        self.hue, self.grey = self._main_hues()
        self.ramps = torch.tensor(
            [[_rgb(c) for c in ink.ramp or HUE_RAMPS[ink.name]] for ink in INKS], device=device
        )
        self.turns = torch.tensor(
            [-1.0 if ink.hue is None else ink.hue / 360 for ink in INKS], device=device
        )
        self.texture_of = torch.tensor([TEXTURES.index(ink.texture) for ink in INKS], device=device)
        self.glow = torch.tensor([_rgb(ink.glow or "#000000") for ink in INKS], device=device)
        self.usual = torch.tensor([BY_NAME[name] for name in USUAL], device=device)
        self.textures = _textures(device)

    @torch.no_grad()
    def draw(self, scenes: Scenes) -> torch.Tensor:
        """Pictures (B, 3, SIZE, SIZE) in [0, 1], float32. Nothing here waits for the device."""
        canvas = self._grounds(scenes)
        for slot in range(SLOTS):
            used = np.flatnonzero(scenes.sprite[:, slot] >= 0)
            if len(used) == 0:
                continue
            layer = self._layer(scenes, used, slot)
            on_grid = np.flatnonzero(scenes.pixelated[used])
            if len(on_grid):
                chosen = self._there(on_grid)
                sprite = self._there(scenes.sprite[used[on_grid], slot])
                layer[chosen] = _on_grid(layer[chosen], ~self.tiny[sprite])
            rows = self._there(used)
            canvas[rows] = layer[:, :3] + canvas[rows] * (1 - layer[:, 3:])
        rolled = np.flatnonzero(scenes.roll.any(1))
        if len(rolled):
            rows = self._there(rolled)
            canvas[rows] = self._rolled(canvas[rows], self._there(scenes.roll[rolled]))
        return canvas

    def _rolled(self, images: torch.Tensor, roll: torch.Tensor) -> torch.Tensor:
        places = torch.arange(SIZE, device=self.device)
        down = ((places - roll[:, :1]) % SIZE).view(-1, 1, SIZE, 1).expand(-1, 3, -1, SIZE)
        right = ((places - roll[:, 1:]) % SIZE).view(-1, 1, 1, SIZE).expand(-1, 3, SIZE, -1)
        return images.gather(2, down).gather(3, right)

    def _there(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    def _grounds(self, scenes: Scenes) -> torch.Tensor:
        canvas = torch.ones(len(scenes.ground), 3, SIZE, SIZE, device=self.device)
        dark = np.flatnonzero(scenes.ground == DARK)
        if len(dark):
            shade = torch.rand(len(dark), 3, 1, 1, device=self.device) * 0.05
            canvas[self._there(dark)] = 0.07 + shade
        for smooth in (False, True):  # softly beside a smooth object
            tiled = np.flatnonzero((scenes.ground >= 0) & (scenes.pixelated != smooth))
            if len(tiled):
                tiles = self.bank[self._there(scenes.ground[tiled]), :3].float() / 255
                if smooth:
                    small = F.avg_pool2d(tiles, CELL)
                    tiles = F.interpolate(small, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
                canvas[self._there(tiled)] = tiles
        return canvas

    def _layer(self, scenes: Scenes, used: np.ndarray, slot: int) -> torch.Tensor:
        """One sprite of each scene `used`, premultiplied RGBA on the canvas."""
        inks, modelled = scenes.ink[used, slot], scenes.modelled[used]
        sprite, ink = self._there(scenes.sprite[used, slot]), self._there(inks)
        pixels = self.bank[sprite].float() / 255
        outlines = np.flatnonzero(modelled > 0)
        if len(outlines):
            rows, shaded = self._there(outlines), self._there(modelled[outlines] == 2)
            free = self.usual[torch.randint(len(self.usual), rows.shape, device=self.device)]
            paint = torch.where(ink[rows] == NO_INK, free, ink[rows])
            pixels[rows] = self._modelled(pixels[rows, 3:], paint, shaded)
        painted = np.flatnonzero((modelled <= 0) & (inks != NO_INK))
        if len(painted):
            rows = self._there(painted)
            pixels[rows] = self._painted(pixels[rows], sprite[rows], ink[rows])
        pixels[:, :3] *= pixels[:, 3:]
        placed = _placed(
            pixels,
            self._there(scenes.scale[used, slot]),
            self._there(scenes.shift[used, slot]),
            self._there(scenes.mirror[used, slot]),
        )
        glowing = np.flatnonzero(np.isin(inks, GLOWING))
        if len(glowing):
            rows = self._there(glowing)
            placed[rows] = self._glowing(placed[rows], ink[rows])
        return placed

    def _painted(
        self, pixels: torch.Tensor, sprite: torch.Tensor, ink: torch.Tensor
    ) -> torch.Tensor:
        turn = self.turns[ink]
        by_hue = (turn >= 0) & ~self.grey[sprite]
        away = (turn - self.hue[sprite]).view(-1, 1, 1)
        turned = _turned(pixels[:, :3], away)
        alpha = pixels[:, 3:]
        light = _light(pixels[:, :3])
        weight = alpha.sum((2, 3), keepdim=True) + 1e-3
        mean = (light * alpha).sum((2, 3), keepdim=True) / weight
        spread = ((light - mean).square() * alpha).sum((2, 3), keepdim=True) / weight
        even = 0.5 + (light - mean) / (4 * spread.sqrt() + 0.12)
        ramped = self._ramp(even + 0.3 * self._texture(ink), ink)
        colour = torch.where(by_hue.view(-1, 1, 1, 1), turned, ramped)
        return torch.cat([colour, alpha], 1)

    def _modelled(
        self, alpha: torch.Tensor, ink: torch.Tensor, shaded: torch.Tensor
    ) -> torch.Tensor:
        """Outlines as objects: a dark body inside the lines, and the lines lit from the top left."""
        wide = F.max_pool2d(alpha, 15, 1, 7)
        body = 1 - F.max_pool2d(1 - wide, 13, 1, 6)
        body = F.avg_pool2d(body, 3, 1, 1)
        height = alpha
        for _ in range(3):
            height = F.avg_pool2d(F.pad(height, (3, 3, 3, 3), mode="replicate"), 7, 1)
        slope_x = height.diff(dim=3, prepend=height[..., :1])
        slope_y = height.diff(dim=2, prepend=height[:, :, :1])
        lit = 0.55 + (2.6 * (slope_x + slope_y)).clamp(-0.4, 0.4)
        down = torch.linspace(0.12, -0.12, SIZE, device=alpha.device).view(1, 1, -1, 1)
        level = torch.where(shaded.view(-1, 1, 1, 1), lit + down, torch.full_like(lit, 0.6))
        level = level + 0.2 * self._texture(ink)
        top, under = self._ramp(level, ink), self._ramp(torch.full_like(level, 0.14), ink)
        return torch.cat([under.lerp(top, alpha), torch.maximum(alpha, body)], 1)

    def _texture(self, ink: torch.Tensor) -> torch.Tensor:
        return self.textures[self.texture_of[ink]]

    def _ramp(self, level: torch.Tensor, ink: torch.Tensor) -> torch.Tensor:
        """Colours (N, 3, H, W) of brightness (N, 1, H, W) on each one's ramp."""
        stops = self.ramps[ink]
        place = level.clamp(0, 1) * (stops.shape[1] - 1)
        colour = torch.zeros(len(level), 3, *level.shape[2:], device=level.device)
        for number in range(stops.shape[1]):
            share = (1 - (place - number).abs()).clamp(min=0)
            colour += share * stops[:, number].view(-1, 3, 1, 1)
        return colour

    def _glowing(self, layer: torch.Tensor, ink: torch.Tensor) -> torch.Tensor:
        halo = layer[:, 3:]
        for _ in range(2):
            halo = F.avg_pool2d(halo, 13, 1, 6)
        halo = (halo * 1.1).clamp(0, 0.75) * (1 - layer[:, 3:])
        return layer + torch.cat([halo * self.glow[ink].view(-1, 3, 1, 1), halo], 1)

    def _main_hues(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every sprite: its most common hue, 0 to 1, and whether it has too little colour."""
        hues, greys = [], []
        for part in self.bank.split(256):
            small = F.avg_pool2d(part.float() / 255, CELL)
            hue, saturation, value = _hsv(small[:, :3])
            weight = (small[:, 3] * saturation * value).flatten(1)
            bins = (hue.flatten(1) * 36).long().clamp(0, 35)
            count = torch.zeros(len(part), 36, device=self.device).scatter_add_(1, bins, weight)
            smooth = count + 0.5 * (count.roll(1, 1) + count.roll(-1, 1))
            hues.append((smooth.argmax(1) + 0.5) / 36)
            greys.append(weight.sum(1) < 0.22 * small[:, 3].flatten(1).sum(1))
        return torch.cat(hues), torch.cat(greys)


def _placed(
    pixels: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, mirror: torch.Tensor
) -> torch.Tensor:
    flip = torch.where(mirror, -1.0, 1.0)
    move = -2 * shift / SIZE / scale[:, None]
    zero = torch.zeros_like(scale)
    rows = torch.stack(
        [
            torch.stack([flip / scale, zero, flip * move[:, 0]], 1),
            torch.stack([zero, 1 / scale, move[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(rows, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False).clamp(0, 1)


def _on_grid(layer: torch.Tensor, outlined: torch.Tensor) -> torch.Tensor:
    """Premultiplied RGBA on the coarse grid: whole pixels, few shades, a dark outline if wanted."""
    small = F.avg_pool2d(layer, CELL)
    solid = (small[:, 3:] > 0.5).float()
    colour = small[:, :3] / small[:, 3:].clamp(min=1e-3)
    drawn = ((colour * 9).round() / 9).clamp(0, 1)
    near = F.max_pool2d(solid, 3, 1, 1) - solid
    cross = (F.avg_pool2d(solid, 3, 1, 1) > 0.12).float() * near
    edge = cross * outlined.view(-1, 1, 1, 1).float()
    colour = torch.where(outlined.view(-1, 1, 1, 1), drawn, colour)
    whole = torch.cat([colour * solid + 0.1 * edge, solid + edge], 1)
    return whole.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)


def _light(rgb: torch.Tensor) -> torch.Tensor:
    return 0.3 * rgb[:, :1] + 0.59 * rgb[:, 1:2] + 0.11 * rgb[:, 2:3]


def _hsv(rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hue, saturation and value in [0, 1], each (N, H, W)."""
    red, green, blue = rgb.unbind(1)
    value, low = rgb.amax(1), rgb.amin(1)
    range_ = (value - low).clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / range_,
        torch.where(value == green, 2 + (blue - red) / range_, 4 + (red - green) / range_),
    )
    return (hue / 6) % 1, (value - low) / value.clamp(min=1e-6), value


def _turned(rgb: torch.Tensor, away: torch.Tensor) -> torch.Tensor:
    """Every hue turned by `away` (N, 1, 1; a whole turn is 1)."""
    hue, saturation, value = _hsv(rgb)
    hue = (hue + away) % 1
    planes = []
    for offset in (5, 3, 1):
        k = (offset + hue * 6) % 6
        planes.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(planes, 1)


def _textures(device: torch.device) -> torch.Tensor:
    """Brightness (len(TEXTURES), 1, SIZE, SIZE) around zero; the first is none."""
    generator = torch.Generator().manual_seed(0)

    def noise(height: int, width: int) -> torch.Tensor:
        coarse = torch.randn(1, 1, height, width, generator=generator)
        return F.interpolate(coarse, (SIZE, SIZE), mode="bicubic")[0]

    grain = noise(4, 40) + 0.5 * noise(8, 64)
    stone = 0.7 * noise(24, 24) + 0.6 * noise(64, 64)
    patches = 1.3 * noise(8, 8) + 0.6 * noise(32, 32)
    found = torch.stack([torch.zeros_like(grain), grain, stone, patches])
    return (0.5 * found).clamp(-1, 1).to(device)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red / 255, green / 255, blue / 255
