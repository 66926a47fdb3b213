"""Batches on a real cluster: a file of hundreds of orders to an archive that another program opens, the same
file again, and a registry that is killed while a batch is drawn.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from serve_app.client import Batch, Client

from .service import Service

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ORDERS = 240
REGISTRY = r"ray::Registry\b"


def table(orders: int) -> str:
    """As a spreadsheet saves it; every third order has no seed of its own."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
    writer.writerow(["Prompt", "Style ID", "Seed", "Steps", "Tags", "Name"])
    for n in range(orders):
        seed = "" if n % 3 == 0 else n
        writer.writerow([f'potion "{n}"; red', "icon", seed, 2, "batch level-3", f"potion_{n}"])
    return "\ufeff" + file.getvalue()


def test_a_file_becomes_an_archive_and_the_same_file_draws_nothing(
    shared: Service, tmp_path: Path
) -> None:
    """While it is drawn the registry is killed once: nothing is lost and nothing drawn twice."""
    path = tmp_path / "potions.csv"
    path.write_text(table(ORDERS))
    with Client(str(shared.http.base_url)) as client:
        plan = client.estimate_batch(path, name="potions")
        assert (plan["size"], plan["to_make"], plan["possible"]) == (ORDERS, ORDERS, True)
        made = client.order_batch(path, name="potions")
        killed = False

        def kill_once(batch: Batch) -> None:
            nonlocal killed
            if not killed and batch.counts["SUCCESS"] >= ORDERS // 8:
                shared.kill(REGISTRY)
                killed = True

        batch = client.wait_batch(made.batch_id, on_progress=kill_once, timeout_s=240)
        assert killed, "it was killed in the middle"
        assert batch.status == "SUCCESS", batch.raw
        assert batch.counts["SUCCESS"] == ORDERS
        archive = client.batch_archive(batch.batch_id, tmp_path / "potions.zip")
        told = subprocess.run(["unzip", "-t", archive], capture_output=True, text=True, check=True)
        assert "No errors detected" in told.stdout
        with zipfile.ZipFile(archive) as found:
            rows = json.loads(found.read("manifest.json"))["rows"]
            assert len(found.namelist()) == ORDERS + 2
            assert [row["name"] for row in rows] == [f"potion_{n}" for n in range(ORDERS)]
            assert found.read(rows[7]["file"]) == client.fetch(
                client.job(rows[7]["job_id"]).images[0].url
            )
        again = client.order_batch(path, name="potions")
        assert (again.status, again.reused) == ("SUCCESS", ORDERS)
        assert again.reused_rows == [*range(1, ORDERS + 1)]
        jobs = {job.job_id for job in client.jobs(tag="batch")}
        assert len(jobs) == ORDERS, "the second time, nothing was ordered"
        assert jobs == {row["job_id"] for row in rows}
