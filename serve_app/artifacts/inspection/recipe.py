"""Recipe: how a picture was made, in this service's words, whichever program wrote it down.

Knows no program. `scheduler_of` finds the name here for what others call a sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from serve_app.catalog.schedulers import SCHEDULERS


@dataclass(frozen=True, slots=True)
class Recipe:
    """None and empty: the file does not say. `record`: what this service knew, if it made the file."""

    program: str
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str = ""
    schedule: str = ""
    model: str = ""
    width: int | None = None
    height: int | None = None
    record: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def order(self) -> dict[str, Any]:
        """The body of a POST /v1/generate that asks for it again. Whether a server here draws it, with which
        model and at which size, is another question. Empty: no prompt is known."""
        if "order" in self.record:
            return dict(self.record["order"])
        if not self.prompt:
            return {}
        said = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "style_id": "none",
            "seed": self.seed,
            "width": self.width,
            "height": self.height,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "scheduler": scheduler_of(self.sampler, self.schedule),
        }
        return {name: value for name, value in said.items() if value is not None}


def whole(value: Any) -> int | None:
    """A whole number, also as text. None: it is none, or an absurd one."""
    found = number(value)
    if found is None or found != int(found):
        return None
    return int(value) if isinstance(value, int) or str(value).strip().isdecimal() else int(found)


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= 2**64 else None


def text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


_OTHER_NAMES = {
    "euler_ancestral": "euler a",
    "dpmpp_2m": "dpm++ 2m",
    "dpmpp_2m_sde": "dpm++ 2m sde",
    "dpmpp_2m_sde_gpu": "dpm++ 2m sde",
    "dpmpp_3m_sde": "dpm++ 3m sde",
    "dpmpp_3m_sde_gpu": "dpm++ 3m sde",
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2 a",
    "euler_a": "euler a",
    "kdpm_2": "dpm2",
    "kdpm_2_a": "dpm2 a",
    "uni_pc": "unipc",
    "pndm": "plms",
}
"""Of ComfyUI, InvokeAI, NovelAI and Fooocus; on the right as AUTOMATIC1111 writes it."""
_SCHEDULES = {
    name: name.replace("_", " ") for name in ("karras", "sgm_uniform", "sgm uniform", "flow")
}
_KNOWN = {(s.sampler.lower(), (s.schedule or "").lower()): n for n, s in SCHEDULERS.items()}


def scheduler_of(sampler: str, schedule: str = "") -> str | None:
    """The name here. None: there is none that draws the same way."""
    name, way = sampler.lower().strip(), _SCHEDULES.get(schedule.lower().strip(), "uniform")
    if name.endswith(" karras"):  # as older versions of AUTOMATIC1111's web UI wrote it
        name, way = name.removesuffix(" karras"), "karras"
    elif name.endswith("_k"):  # InvokeAI
        name, way = name.removesuffix("_k"), "karras"
    name = name.removeprefix("k_")
    name = _OTHER_NAMES.get(name, name)
    return _KNOWN.get((name, way)) or _KNOWN.get((name, ""))
