"""Bench: a device, a time budget and a file of JSON lines; how long one call takes there.

Knows torch devices; nothing of models.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Bench:
    """`dry`: on the CPU, with tiny networks and no time for averages, to see that everything runs."""

    def __init__(self, out: Path, minutes: float, *, dry: bool) -> None:
        self.dry = dry
        self.gpu = torch.cuda.is_available() and not dry
        self.device = torch.device("cuda" if self.gpu else "cpu")
        self.half = torch.float16 if self.gpu else torch.float32
        self.peak = 1.0  # TFLOP/s of a bfloat16 product, measured by `ceilings`
        self.lines: list[dict[str, Any]] = []
        self._began, self._minutes = time.perf_counter(), minutes
        out.mkdir(parents=True, exist_ok=True)
        self._file = (out / "measured.jsonl").open("a")

    def close(self) -> None:
        self._file.close()

    @property
    def left(self) -> float:
        """Seconds."""
        return self._minutes * 60 - (time.perf_counter() - self._began)

    def say(self, section: str, **values: Any) -> None:
        """One JSON line, written at once: a run that is cut off keeps what it has."""
        at = round(time.perf_counter() - self._began, 1)
        line = {"section": section, "at": at, **values}
        self.lines.append(line)
        text = json.dumps(line, default=str)
        self._file.write(text + "\n")
        self._file.flush()
        print(text, flush=True)

    def synchronize(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def milliseconds(self, call: Callable[[], Any], seconds: float = 1.0) -> tuple[float, float]:
        """Medians: of the device until the call is done, and of the host until it returns."""
        call()
        self.synchronize()
        device, host = list[float](), list[float]()
        end = time.perf_counter() + (0 if self.dry else seconds)
        while len(device) < (1 if self.dry else 3) or time.perf_counter() < end:
            self.synchronize()
            began = time.perf_counter()
            call()
            host.append((time.perf_counter() - began) * 1000)
            self.synchronize()
            device.append((time.perf_counter() - began) * 1000)
        return round(statistics.median(device), 3), round(statistics.median(host), 3)

    def share(self, tflop: float, seconds: float) -> float:
        """Of the measured peak."""
        return round(tflop / seconds / self.peak, 3)
