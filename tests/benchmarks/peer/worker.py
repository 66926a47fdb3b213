"""The peer's Celery app and its one task. Knows from the environment where Redis is and pictures go."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from celery import Celery
from PIL import Image

REDIS_URL = os.environ["REDIS_URL"]
OUTPUT = Path(os.environ["PEER_OUTPUT"])

app: Any = Celery("game_asset_worker", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(task_track_started=True, broker_connection_retry_on_startup=True)


def _generate(prompt: str, negative_prompt: str, style_id: str, seed: int) -> dict[str, Any]:
    name = f"{style_id}_{seed}_{uuid.uuid4().hex}.png"
    Image.new("RGB", (32, 32)).save(OUTPUT / name)
    return {"result_urls": [f"/output/{name}"]}


generate_task = app.task(name="generate")(_generate)
