"""A batch of ten thousand orders: how long its 202 takes, what a look costs, and its archive's memory.

    python -m tests.benchmarks.bench_batches [--orders 10000] [--service FOLDER] [--out FILE.md]

With `--service`: the whole service on a cluster of its own, the starter model and its styles. The CSV is sent
ROUNDS times under other names, each cancelled before the next; first, ALONE orders of the same kind are sent
one by one on one connection, as a client without batches would. Then the last batch is ordered again and
cancelled, RETRIES times. Meanwhile somebody else looks at the list of batches fifty times a second.

Without it, the workload is: a CSV of that many orders with a prompt of its own each, sent over HTTP on
loopback to the app on a real registry and store. All are in one process here; what goes between app and
registry is pickled, as Ray would. Nothing is drawn: the jobs are ended with files of 4 KiB, as a job task
ends them. Then the same file again, and the archive, read by a client that keeps nothing. Memory: growth of
the peak of the process's resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import pickle
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

import httpx

from serve_app.jobs.job import Status
from tests.api.harness import LocalTransport, limit, make_app
from tests.cluster.service import Service
from tests.factories import image_file
from tests.jobs.harness import World
from tests.serving import served

FILE_BYTES = 4096
ALONE = 200
ROUNDS = 5
RETRIES = 2
LOOKS = 200
CSV = {"content-type": "text/csv"}


def _sent(message: Any) -> Any:
    return pickle.loads(pickle.dumps(message))  # noqa: S301 - our own


class PickledTransport(LocalTransport):
    """What is sent and answered is pickled once each way."""

    async def _call(self, method: str, *args: Any) -> Any:
        found = getattr(self.world.registry, method)(*_sent(args))
        reply = await found if inspect.isawaitable(found) else found
        return _sent(reply)


async def end_all(world: World, batch_id: str) -> None:
    """Every job of the batch has one file, as if it had been drawn at once."""
    store, folder = world.registry._store, world.files.root / "2026-11-27"
    folder.mkdir()
    batch = await store.batches.get(batch_id)
    assert batch is not None
    after = 0
    while rows := await store.batches.rows(batch.number, after, 500):
        after = rows[-1].row
        ends: list[Any] = []
        for row in rows:
            assert row.job is not None
            data = row.job.job_id.encode().ljust(FILE_BYTES, b".")
            path = f"{folder.name}/{row.job.job_id}.png"
            (world.files.root / path).write_bytes(data)
            ended = row.job.evolve(
                status=Status.SUCCESS,
                completed_at=time.time(),
                images=(image_file(data, path=path),),
            )
            ends.append(store.update(ended, expected_fence=0))
        assert all(await asyncio.gather(*ends))


def peak_reset() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


async def measured(orders: int, root: Path) -> list[tuple[str, str]]:
    figures: list[tuple[str, str]] = []
    table = table_of(orders)
    async with World(root, {"max_pending": 2 * orders, "cached_jobs": 1000}) as world:
        limit(world, max_in_flight=0)
        app = make_app(PickledTransport(world), max_pending=2 * orders)
        async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=120) as client:
            await client.get("/v1/capabilities")
            worked: list[float] = []  # seconds of CPU, of all threads

            async def timed(path: str) -> tuple[float, httpx.Response]:
                begun, cpu = time.perf_counter(), time.process_time()
                response = await client.post(path, content=table, headers=CSV)
                assert response.is_success, response.text
                seconds = time.perf_counter() - begun
                worked.append(time.process_time() - cpu)
                return seconds, response

            dry, _ = await timed("/v1/batches?name=dry&dry_run=true")
            seconds, response = await timed("/v1/batches?name=potions")
            batch = response.json()
            figures.append((f"202 of {orders} orders, s", f"{seconds:.2f}"))
            figures.append(("CPU that it takes, s", f"{worked[-1]:.2f}"))
            figures.append(("of that, read and checked (a dry run), s", f"{dry:.2f}"))
            begun = time.perf_counter()
            for _ in range(LOOKS):
                await client.get(batch["urls"]["self"])
            look = (time.perf_counter() - begun) / LOOKS * 1000
            figures.append(("a look at it, ms", f"{look:.1f}"))
            await end_all(world, batch["batch_id"])
            seconds, response = await timed("/v1/batches?name=potions")
            assert response.json()["reused"]["count"] == orders
            figures.append((f"the same file again, {orders} reused, s", f"{seconds:.2f}"))
            peak_reset()
            before, taken, begun = peak_mib(), 0, time.perf_counter()
            async with client.stream("GET", batch["urls"]["archive"]) as reply:
                async for piece in reply.aiter_raw():
                    taken += len(piece)
            seconds = time.perf_counter() - begun
            figures.append((f"archive of {orders} files, s", f"{seconds:.1f}"))
            figures.append(("its size, MiB", f"{taken / 2**20:.0f}"))
            figures.append(("memory it takes at its peak, MiB", f"{peak_mib() - before:.0f}"))
            begun = time.perf_counter()
            again = await client.post("/v1/batches?name=others", content=table, headers=CSV)
            cancelled = await client.post(again.json()["urls"]["cancel"])
            assert cancelled.json()["counts"]["REVOKED"] == orders
            seconds = time.perf_counter() - begun
            figures.append((f"{orders} ordered and cancelled, s", f"{seconds:.1f}"))
    return figures


def table_of(orders: int) -> str:
    rows = (f"{prompt(n)},icon,level-3\n" for n in range(orders))
    return f"prompt,style_id,tags\n{''.join(rows)}"


def prompt(number: int) -> str:
    return f"a red potion number {number} in a round bottle"


def on_a_service(orders: int, folder: Path) -> list[tuple[str, str]]:
    service = Service(folder, {"max_pending": 2 * orders}).start()
    try:
        return [
            ("seconds an order, one by one", f"{one_by_one(service):.4f}"),
            *together(service, table_of(orders), orders),
        ]
    finally:
        service.stop()


def one_by_one(service: Service) -> float:
    begun = time.perf_counter()
    for n in range(ALONE):
        order = {"prompt": prompt(n), "style_id": "icon", "tags": ["level-3"]}
        assert service.http.post("/v1/generate", json=order).status_code == 202
    seconds = time.perf_counter() - begun
    for job in service.http.get("/v1/jobs?status=PENDING&status=STARTED&limit=100").json()[
        "results"
    ]:
        service.http.post(job["urls"]["cancel"])
    return seconds / ALONE


def together(service: Service, table: str, orders: int) -> list[tuple[str, str]]:
    taken: list[float] = []
    cancelled: list[float] = []
    retried: list[float] = []
    alone: list[float] = []
    urls: dict[str, str] = {}
    for turn in range(ROUNDS):
        seconds, urls = ordered(service, table, f"alone{turn}")
        alone.append(seconds)
        done(service, urls["cancel"])
    with Onlooker(service) as onlooker:
        for turn in range(ROUNDS):
            with onlooker.during("order"):
                seconds, urls = ordered(service, table, f"b{turn}")
                taken.append(seconds)
            with onlooker.during("cancel"):
                cancelled.append(done(service, urls["cancel"]))
        for _ in range(RETRIES):
            with onlooker.during("retry"):
                retried.append(done(service, urls["retry"]))
            done(service, urls["cancel"])
    return [
        (f"202 of {orders} orders, s, each of {ROUNDS}", told(alone)),
        ("seconds an order", f"{sorted(alone)[ROUNDS // 2] / orders:.5f}"),
        ("... while somebody else looks", told(taken)),
        (f"{orders} cancelled, s", told(cancelled)),
        (f"{orders} ordered again, s", told(retried)),
        *onlooker.figures(),
    ]


def ordered(service: Service, table: str, name: str) -> tuple[float, dict[str, str]]:
    """Seconds until the 202, and where the batch is."""
    begun = time.perf_counter()
    reply = service.http.post(f"/v1/batches?name={name}", content=table, headers=CSV, timeout=60)
    seconds = time.perf_counter() - begun
    assert reply.status_code == 202, reply.text
    return seconds, reply.json()["urls"]


def done(service: Service, url: str) -> float:
    begun = time.perf_counter()
    reply = service.http.post(url, timeout=120)
    assert reply.is_success, reply.text
    return time.perf_counter() - begun


def told(seconds: list[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds)


class Onlooker:
    """Somebody else, who asks the registry for a page of a list all the time."""

    def __init__(self, service: Service) -> None:
        self._url = f"{service.http.base_url}/v1/batches?limit=1"
        self._waits: dict[str, list[float]] = {}
        self._now = "nothing"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @contextlib.contextmanager
    def during(self, what: str) -> Generator[None]:
        self._now = what
        yield
        self._now = "nothing"

    def _ask(self) -> None:
        with httpx.Client(timeout=60) as http:
            while not self._over.wait(0.02):
                what, begun = self._now, time.perf_counter()
                http.get(self._url).raise_for_status()
                self._waits.setdefault(what, []).append(time.perf_counter() - begun)

    def figures(self) -> list[tuple[str, str]]:
        return [
            (
                f"a look of somebody else during {what}, ms: median, longest",
                f"{sorted(waits)[len(waits) // 2] * 1000:.0f}, {max(waits) * 1000:.0f}",
            )
            for what, waits in self._waits.items()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--service", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.service is not None:
        figures = on_a_service(given.orders, given.service)
    else:
        with tempfile.TemporaryDirectory() as root:
            figures = asyncio.run(measured(given.orders, Path(root)))
    text = "\n".join(
        ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in figures)]
    )
    print(text)
    if given.out is not None:
        with contextlib.suppress(FileExistsError):
            given.out.parent.mkdir(parents=True)
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
