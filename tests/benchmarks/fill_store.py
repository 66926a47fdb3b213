"""Writes a job store as months of use leave it: a million finished jobs, a hundred thousand that wait.

    python -m tests.benchmarks.fill_store DIRECTORY --finished 1000000 --queued 100000

Workload: orders of the shipped styles (about 900 bytes each) by `--owners` owners, the largest of whom
has a quarter of them; three clients per owner, tags, metadata, priorities. 94 % of the finished jobs
succeeded, 4 % failed, 2 % were cancelled; one in fifty needed a second attempt. The jobs that wait are
most of the newest ones. Same seed, same store, but for the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_app.artifacts.names import ArtifactName
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.finding import index
from serve_app.jobs.store.rows import to_row
from serve_app.jobs.store.schema import NAMED, VALUES
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import ImageFile, JobError, Labels
from serve_app.params import GenerationParams, summary_of

ROOT = Path(__file__).resolve().parents[2]
DAY = 86400.0
DAYS = 60  # from the first order to now
LIVES = 20  # of the registry, in that time
BATCH = 10_000  # jobs per transaction
MODEL = "sd15"
RARE_TAG = "tournament"  # one job in a thousand
WORDS = (
    *("ancient", "glowing", "rusty", "ornate", "broken", "enchanted", "frozen", "golden"),
    *("sword", "shield", "lantern", "potion", "helmet", "amulet", "crate", "dragon"),
    *("with", "runes", "gems", "moss", "chains", "feathers", "a cracked hilt", "a leather grip"),
)
FAILED = JobError(
    code="render_failed", title="Failed", detail="A layer gave no numbers.", retryable=True
)
CANCELLED = JobError(
    code="cancelled", title="Cancelled", detail="Somebody cancelled it.", retryable=True
)


@dataclass(frozen=True)
class Order:
    """What a client sends."""

    owner: str
    params: GenerationParams
    labels: Labels


class Author:
    """Writes orders, as `owners` owners would over the months."""

    def __init__(self, owners: int, rng: random.Random) -> None:
        self._rng = rng
        models = load_models(ROOT / "configs" / "models.yaml")
        styles = load_styles(ROOT / "configs" / "styles.yaml", models)
        self.spec = models[MODEL]
        self.styles = [style for style in styles.values() if style.draws(MODEL)]
        self.owners = [f"studio-{i}" for i in range(owners)]
        self.tags = [f"level-{i}" for i in range(40)]
        self._shares = list(itertools.accumulate(1 / (i + 1) for i in range(owners)))
        self._uses = list(itertools.accumulate(1 / (i + 1) for i in range(len(self.tags))))
        self._popular = list(itertools.accumulate(1 / (i + 1) for i in range(len(self.styles))))

    def order(self, owner: str | None = None) -> Order:
        rng = self._rng
        owner = owner or rng.choices(self.owners, cum_weights=self._shares)[0]
        tags = set(rng.choices(self.tags, cum_weights=self._uses, k=rng.choice((0, 1, 1, 2, 3))))
        if rng.random() < 0.001:
            tags.add(RARE_TAG)
        client = rng.choice((owner, f"{owner}/editor", f"{owner}/build"))
        params = self._params()
        asset = {"asset": f"{rng.randrange(16**8):08x}", "scene": "keep"}
        labels = Labels(
            client=client,
            priority=rng.choices(("normal", "high", "low"), (90, 5, 5))[0],
            tags=sorted(tags),
            metadata=asset if rng.random() < 0.3 else {},
            retry_of=None,
        )
        return Order(owner, params, labels)

    def _params(self) -> GenerationParams:
        rng, spec = self._rng, self.spec
        style = rng.choices(self.styles, cum_weights=self._popular)[0]
        subject = " ".join(rng.choices(WORDS, k=14))
        side = rng.choice((512, 512, 768))
        return GenerationParams(
            prompt=style.template_for(MODEL).replace("{prompt}", subject),
            negative_prompt=", ".join(filter(None, (style.negative_prompt, spec.negative_prompt))),
            seed=rng.randrange(2**32),
            n=rng.choice((1, 1, 1, 1, 1, 1, 1, 4)),
            width=side,
            height=side,
            steps=rng.choice((20, 25, 30)),
            guidance_scale=7.0,
            scheduler=spec.schedulers[0],
            model=MODEL,
            model_revision=spec.revision or "",
            style_id=style.id,
            style_revision=style.revision,
            subject=subject,
            subject_negative=rng.choice(("", "people, hands")),
        )


def jobs(author: Author, finished: int, queued: int, rng: random.Random) -> Iterator[Job]:
    """In the order in which they came."""
    count = finished + queued
    now = time.time()
    newest = range(count - min(count, queued + queued // 4), count)
    waiting = set(rng.sample(newest, queued))
    gap = DAYS * DAY / count
    for i in range(count):
        number = int((now - (count - i - rng.random() * 0.9) * gap) * 1e6)
        order = author.order()
        job = Job(
            _uuid7(number, rng),
            order.owner,
            order.params.model_dump(),
            summary_of(order.params),
            order.labels,
            number / 1e6,
            number,
        )
        yield _waiting(job, now, rng) if i in waiting else _ended(job, now, rng)


def _waiting(job: Job, now: float, rng: random.Random) -> Job:
    """One in ten has a deadline; one in a hundred ran before, and a few ran when the registry died."""
    job = job.evolve(deadline=now + rng.uniform(30, 60) * DAY if rng.random() < 0.1 else None)
    chance = rng.random()
    if chance < 0.0001:
        return job.evolve(status=Status.STARTED, fence=1, started_at=now)
    return job.evolve(status=Status.RETRY, fence=1, attempts=1) if chance < 0.01 else job


def _ended(job: Job, now: float, rng: random.Random) -> Job:
    started_at = min(now - 1, job.created_at + rng.expovariate(1 / 600))
    completed_at = min(now, started_at + rng.uniform(4, 40))
    fence = 2 if rng.random() < 0.02 else 1
    status = rng.choices((Status.SUCCESS, Status.FAILURE, Status.REVOKED), (94, 4, 2))[0]
    if status is Status.REVOKED and rng.random() < 0.5:  # it never ran
        return job.evolve(status=status, error=CANCELLED, completed_at=completed_at)
    return job.evolve(
        status=status,
        fence=fence,
        attempts=fence - 1,
        started_at=started_at,
        completed_at=completed_at,
        images=_images(job, fence, rng) if status is Status.SUCCESS else (),
        error={Status.FAILURE: FAILED, Status.REVOKED: CANCELLED}.get(status),
    )


def _images(job: Job, fence: int, rng: random.Random) -> tuple[ImageFile, ...]:
    params = job.params
    return tuple(
        ImageFile(
            path=ArtifactName(
                params["style_id"], params["seed"] + index, job.job_id, index, fence
            ).path,
            index=index,
            seed=params["seed"] + index,
            width=params["width"],
            height=params["height"],
            content_type="image/png",
            size_bytes=rng.randrange(200_000, 600_000),
            sha256=f"{rng.getrandbits(256):064x}",
            has_alpha=False,
            notes=[],
        )
        for index in range(params["n"])
    )


def _uuid7(number: int, rng: random.Random) -> str:
    """`number`: microseconds."""
    head = (number // 1000) << 16 | 0x7000 | rng.getrandbits(12)
    return str(uuid.UUID(int=head << 64 | 0b10 << 62 | rng.getrandbits(62)))


def fill(directory: Path, *, finished: int, queued: int, owners: int = 20, seed: int = 0) -> None:
    """Raises FileExistsError if there is a store."""
    if (directory / "jobs.db").exists():
        raise FileExistsError(f"{directory} has a job store already")
    asyncio.run(SqliteStore(directory).close())  # makes the tables
    rng = random.Random(seed)
    coming = enumerate(jobs(Author(owners, rng), finished, queued, rng))
    keys_since = time.time() - DAY
    db = sqlite3.connect(directory / "jobs.db", isolation_level=None)
    # Whoever kills this begins again, so nothing needs to survive it.
    db.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1e6"
    )
    for batch in iter(lambda: list(itertools.islice(coming, BATCH)), []):
        db.execute("BEGIN")
        for i, job in batch:
            life = 1 + i * LIVES // (finished + queued)
            row = to_row(job) | {"ended": life if job.status.terminal else None}
            db.execute(f"INSERT INTO jobs ({NAMED}) VALUES ({VALUES})", row)
            index(db, job.number, job.owner, job.labels, job.params)
            if job.created_at > keys_since:
                key = (job.owner, job.job_id, job.job_id, "", job.created_at)
                db.execute("INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)", key)
        db.execute("COMMIT")
        print(f"\r{batch[-1][0] + 1:,} jobs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for key, value in (("epoch", LIVES), ("swept", LIVES - 1)):
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--owners", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    fill(**vars(options))
    size = (options.directory / "jobs.db").stat().st_size
    print(f"{size / 2**20:,.0f} MiB in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
