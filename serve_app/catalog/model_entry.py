"""ModelEntry: what models.d says of a model that was imported: sizes, steps and schedulers that suit it.

Knows the kinds of Stable Diffusion and the habits of their descendants, as far as a file's name tells them;
nothing of weights. What is guessed from a name is said in the remarks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from serve_app.catalog.models import ModelSpec
from serve_app.errors import ConfigError, ModelError

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

SQUARE = [[1024, 1024], [1152, 896], [896, 1152], [1216, 832], [832, 1216]]
WIDE = [[1344, 768], [768, 1344], [1536, 640], [640, 1536]]
KINDS: Mapping[str, dict[str, Any]] = {
    "1": {
        "family": "sd",
        "like": "sd15",
        "native_size": [512, 512],
        "side": {"min": 256, "max": 1024},
        "steps": 25,
        "guidance_scale": 7.0,
    },
    "2": {
        "family": "sd",
        "like": "sd15",
        "native_size": [512, 512],
        "side": {"min": 256, "max": 1024},
        "steps": 25,
        "guidance_scale": 7.0,
    },
    "xl": {
        "family": "sdxl",
        "like": "sdxl_base",
        "native_size": [1024, 1024],
        "sizes": SQUARE + WIDE,
        "steps": 28,
        "guidance_scale": 6.0,
    },
}
"""By generation. `like`: the model of models.yaml whose styles suit it too."""

SCHEDULERS = [
    "euler_a",
    "dpmpp_2m_karras",
    "dpmpp_2m_sde_karras",
    "euler",
    "dpmpp_2m",
    "ddim",
    "unipc",
]
FOR_V = ["euler", "euler_a", "dpmpp_2m", "ddim"]
FEW_STEPS: dict[str, Any] = {
    "steps": 8,
    "max_steps": 20,
    "guidance_scale": 1.0,
    "schedulers": ["euler_trailing", "euler_a_trailing", "lcm", "tcd"],
}
HABITS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"turbo|lightning|hyper|lcm|dmd|schnell", FEW_STEPS),
    (r"pony", {"prompt_template": "score_9, score_8_up, score_7_up, {prompt}"}),
    (r"anime|anything|counterfeit|meina|orangemix", {"clip_skip": 2}),
    (r"illustrious|noob|animagine", {"prompt_template": "masterpiece, best quality, {prompt}"}),
)
"""Words in a file's name, and what checkpoints of that name were trained to expect."""


@dataclass
class ModelEntry:
    """`fields` of a ModelSpec."""

    name: str
    fields: dict[str, Any]
    remarks: list[str] = field(default_factory=list[str])

    def spec(self) -> ModelSpec:
        return ModelSpec.model_validate({**self.fields, "name": self.name})

    def text(self, source: str) -> str:
        """The whole file of models.d. `source`: the file's name, as it was brought."""
        body = yaml.safe_dump(self.fields, sort_keys=False, allow_unicode=True, width=100)
        return (
            f"# {source}, by `assets models import`. Fields: ModelSpec in serve_app/catalog/models.py. Read "
            f"the licence of the model.\n{body}"
        )


def entry_of(
    name: str, source: str, path: str, *, generation: str, predicts: str, zero_snr: bool
) -> ModelEntry:
    """`source`: the file's name; `path`: the directory of the weights; the rest: what was found in them."""
    fields: dict[str, Any] = {"title": Path(source).stem, "path": path, **KINDS[generation]}
    fields |= {"multiple": 64, "schedulers": SCHEDULERS, "prompt_syntax": "weighted"}
    remarks: list[str] = []
    if predicts == "v_prediction":
        fields |= {"guidance_scale": 5.0, "guidance_rescale": 0.7, "schedulers": FOR_V}
        if generation == "2":
            fields |= {"native_size": [768, 768], "guidance_scale": 7.0}
        text = ", on a schedule that ends in pure noise" if zero_snr else ""
        remarks.append(f"it predicts v{text}: guidance_rescale is 0.7")
    for pattern, habits in HABITS:
        if found := re.search(pattern, source, re.IGNORECASE):
            fields |= habits
            told = ", ".join(f"{key} {value}" for key, value in habits.items())
            remarks.append(f"guessed from {found[0]!r} in its name: {told}")
    return ModelEntry(name, fields, remarks)


def check_name(name: str, folder: Path, known: Mapping[str, Any]) -> None:
    """Raises ConfigError. `folder`: models.d. `known`: the models that are configured already."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a model: a-z, 0-9, '_', '.', '-', at most 64")
    if name in known or (folder / f"{name}.yaml").exists():
        raise ConfigError(f"there is a model {name!r} already; give another --name")


def write_entry(entry: ModelEntry, folder: Path, source: str) -> Path:
    """The new file below `folder`. Raises ModelError."""
    path = folder / f"{entry.name}.yaml"
    try:
        folder.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(entry.text(source))
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}") from error
    return path
