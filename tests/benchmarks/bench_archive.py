"""A batch from its file to its archive, which other programs open, and the same file once more.

    python -m tests.benchmarks.bench_archive FOLDER [--orders 1000] [--out FILE.md]

Workload: a semicolon CSV as a spreadsheet saves it, every third order without a seed of its own, 2 steps
each, on a cluster of its own with the starter. When all is drawn, the archive is taken and read by whichever
of `unzip`, `bsdtar` and `7z` are there, and by Python's zipfile: every file must have the hash that its job
published. Then the same file is ordered again: nothing may be drawn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

from serve_app.client import Batch, Client
from tests.cluster.service import Service
from tests.cluster.test_batches import table

READERS = {
    "unzip": ("unzip", "-tqq"),
    "bsdtar": ("bsdtar", "-xOf"),
    "7z": ("7z", "t", "-bso0"),
}
"""Each reads every byte of the archive, checks it, and fails if it is wrong."""
Rows = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    service = Service(given.folder, {"max_pending": 2 * given.orders}).start()
    try:
        with Client(str(service.http.base_url)) as client:
            figures = measured(client, given.orders, given.folder)
    finally:
        service.stop()
    text = "\n".join(["| | |", "|---|---|", *(f"| {what} | {said} |" for what, said in figures)])
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


def measured(client: Client, orders: int, folder: Path) -> Rows:
    file = folder / "potions.csv"
    file.write_text(table(orders))
    begun = time.perf_counter()
    made = client.order_batch(file, name="potions")
    accepted = time.perf_counter() - begun
    batch = client.wait_batch(made.batch_id, timeout_s=3600)
    drawn = time.perf_counter() - begun
    assert batch.counts["SUCCESS"] == orders, batch.raw
    archive, taken = timed(client.batch_archive, batch.batch_id, folder / "potions.zip")
    readers = [name for name, words in READERS.items() if read_by(words, archive)]
    assert readers, "there is no other program here to open it"
    check(client, batch, archive, orders)
    again, repeated = timed(client.order_batch, file, name="potions")
    assert (again.status, again.reused) == ("SUCCESS", orders)
    return [
        (f"202 of {orders} orders, s", f"{accepted:.2f}"),
        ("until all is drawn, s", f"{drawn:.1f}"),
        ("its archive, s", f"{taken:.2f}"),
        ("MiB", f"{archive.stat().st_size / 2**20:.1f}"),
        ("read without an error by", ", ".join([*readers, "Python's zipfile"])),
        ("files whose hash is the published one", f"{orders} of {orders}"),
        ("the same file again, s", f"{repeated:.2f}"),
        ("of it reused; drawn", f"{again.reused}; {orders - again.reused}"),
    ]


def timed(call: Any, *args: Any, **more: Any) -> tuple[Any, float]:
    begun = time.perf_counter()
    return call(*args, **more), time.perf_counter() - begun


def read_by(words: tuple[str, ...], archive: Path) -> bool:
    """False: the program is not here. Raises CalledProcessError for an archive that it finds damaged."""
    if shutil.which(words[0]) is None:
        return False
    subprocess.run([*words, archive], check=True, stdout=subprocess.DEVNULL)
    return True


def check(client: Client, batch: Batch, archive: Path, orders: int) -> None:
    published = {job.job_id: job.images[0].sha256 for job in client.jobs(tag="batch")}
    with zipfile.ZipFile(archive) as found:
        assert found.testzip() is None
        rows = json.loads(found.read("manifest.json"))["rows"]
        assert [row["name"] for row in rows] == [f"potion_{n}" for n in range(orders)]
        assert len(found.namelist()) == orders + 2
        for row in rows:
            sha = hashlib.sha256(found.read(row["file"])).hexdigest()
            assert sha == published[row["job_id"]], row
    assert len(published) == orders, batch.raw


if __name__ == "__main__":
    main()
