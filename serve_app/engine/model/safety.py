"""SafetyCheck: asks a checkpoint's own safety checker about each finished picture.

Knows pixels and the checker's parts; nothing of requests. The engine calls it in the encoders' threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from serve_app.errors import Flagged


class SafetyCheck:
    """`checker`: a StableDiffusionSafetyChecker; `extractor`: the CLIP image processor before it."""

    def __init__(self, checker: Any, extractor: Any, device: torch.device) -> None:
        self.checker = checker
        self.extractor = extractor
        self.device = device

    @torch.inference_mode()
    def __call__(self, pixels: Any) -> None:
        """`pixels`: uint8 (height, width, 3). Raises Flagged."""
        inputs = self.extractor(Image.fromarray(pixels), return_tensors="pt")
        values = inputs.pixel_values.to(self.device, self.checker.dtype)
        # It would blacken the images it flags. Here the job fails instead, so it gets a 1 x 1 image.
        _, flagged = self.checker(images=[np.zeros((1, 1, 3))], clip_input=values)
        if flagged[0]:
            raise Flagged()
