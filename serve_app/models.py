"""ModelSpec: what configs/models.yaml says of each checkpoint the service may load.

Knows nothing of torch or diffusers: the ingress reads it too. Loading is `engine/loading.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """An inclusive range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(ge=1)
    max: int = Field(ge=1)


class Draft(BaseModel):
    """The cheap quality tier of a model: what `quality: "draft"` resolves to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guidance_stop: float = Field(default=0.5, ge=0, le=1)
    decoder: Literal["full", "tiny"] = "full"


class ModelSpec(BaseModel):
    """One checkpoint. Exactly one of `path` and `hub` is set; safetensors only in both cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    title: str = ""
    family: Literal["sd", "sdxl"]  # StableDiffusionPipeline or StableDiffusionXLPipeline parts
    path: str | None = Field(default=None, description="Directory, relative to the project root.")
    hub: str | None = Field(default=None, description="Hub repository id; needs `revision`.")
    revision: str | None = Field(default=None, description="A full commit id; never a branch.")
    variant: str | None = None
    tiny_decoder: str | None = Field(default=None, description="Directory of an AutoencoderTiny.")
    native_size: tuple[int, int]
    sizes: list[tuple[int, int]] | None = Field(default=None, description="The only sizes allowed.")
    side: Limits | None = Field(default=None, description="Or: any size within, by `multiple`.")
    multiple: int = Field(default=8, ge=8)
    token_limit: int = Field(default=77, ge=4)
    steps: int = Field(ge=1, description="Default.")
    max_steps: int = Field(default=150, ge=1)
    guidance_scale: float = Field(ge=0, description="Default; 0 or 1 for turbo and LCM models.")
    schedulers: list[str] = Field(min_length=1, description="Allowed; the first is the default.")
    prompt_template: str = "{prompt}"
    negative_prompt: str = ""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    threads: int | None = Field(default=None, description="torch threads per replica on a CPU.")
    channels_last: bool = False
    compile: bool = Field(default=False, description="torch.compile the whole UNet.")
    max_rows: int = Field(default=16, ge=2, description="Hard cap of UNet rows per call.")
    draft: Draft = Draft()
