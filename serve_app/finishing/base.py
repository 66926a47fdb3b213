"""What every effect has in common: its fields are checked, it says what it does, and it is applied.

Knows nothing of any single effect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from serve_app.errors import ConfigError
from serve_app.finishing.picture import Picture

HexColor = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
"""`#rrggbb`."""


class BaseEffect(BaseModel, ABC):
    """One operation. The docstring of a subclass is the sentence that clients read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    example: ClassVar[Mapping[str, Any]]
    """A body that is accepted as it stands."""

    @abstractmethod
    def apply(self, picture: Picture) -> Picture:
        """Pure: equal pixels and fields give equal bytes. Raises EffectFailed."""


@dataclass(frozen=True)
class Weights:
    """Where the models lie that some effects need. The server's configuration says so, never an order."""

    matting: Path | None = None
    upscalers: Mapping[str, Path] = field(default_factory=dict[str, Path])


NO_WEIGHTS = Weights()


def weights_in(matting: Path | None, upscalers: Path | None) -> Weights:
    """`matting`: an ONNX file; `upscalers`: a folder of .safetensors, each a model of its file's name."""
    found = sorted(upscalers.glob("*.safetensors")) if upscalers is not None else []
    return Weights(matting, {path.stem: path for path in found})


def refuse_bad_weights(matting: Path | None, upscalers: Path | None) -> None:
    """Raises ConfigError: there is no such file or folder, or the extra that reads it is not installed."""
    for path, kind, extra, module in (
        (matting, "file", "matting", "onnxruntime"),
        (upscalers, "folder", "upscale", "spandrel"),
    ):
        if path is None:
            continue
        if not (path.is_file() if kind == "file" else path.is_dir()):
            raise ConfigError(f"{path}: there is no such {kind}")
        if find_spec(module) is None:
            raise ConfigError(f"needs the extra `{extra}`, which is not installed here")
    if upscalers is not None and not weights_in(None, upscalers).upscalers:
        raise ConfigError(f"{upscalers}: has no .safetensors file")


class ModelEffect(BaseEffect):
    """An effect that may ask a learned model."""

    @abstractmethod
    def apply(self, picture: Picture, weights: Weights = NO_WEIGHTS) -> Picture: ...


def rgb_of(color: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers."""
    return (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))


def hex_of(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
