"""CLASSES: the transformer families by the names that models.yaml gives them.

Knows names only.
"""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.engine.model.dit.family import TransformerFamily
from serve_app.engine.model.dit.flux import Flux
from serve_app.engine.model.dit.flux2 import Flux2Klein
from serve_app.engine.model.dit.qwen_image import QwenImage
from serve_app.engine.model.dit.sana import Sana
from serve_app.engine.model.dit.sd3 import StableDiffusion3
from serve_app.engine.model.dit.z_image import ZImage

CLASSES: Mapping[str, type[TransformerFamily]] = {
    "sd3": StableDiffusion3,
    "flux": Flux,
    "flux2": Flux2Klein,
    "qwen_image": QwenImage,
    "z_image": ZImage,
    "sana": Sana,
}
