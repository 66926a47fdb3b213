"""ledger: `assets ledger`, every published file with its hashes and how it was made; and whether a picture
is one of them.

Knows jobs as the server tells of them: what was deleted or has expired is not in the ledger any more.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageOps

from serve_app.artifacts.imprint import SIMILAR_BITS, Imprint, distance, imprint_of
from serve_app.cli.options import ApiKey, Server, connect, home_path
from serve_app.cli.printing import err, out
from serve_app.cli.provenance import read_file
from serve_app.client import SERVER, AssetsError, Client, Job, Rejected
from serve_app.delivery.ledger import LedgerEntry, as_table, each_once, entries_of, parents_of
from serve_app.errors import ConfigError


def ledger(
    as_csv: Annotated[bool, typer.Option("--csv", help="All of it, for a spreadsheet.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it, a line of JSON each.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only jobs ordered since."),
    ] = None,
    find: Annotated[
        Path | None, typer.Option(parser=home_path, help="Is this picture one of them?")
    ] = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Say what of your files was made with AI, and how: for a store's form, and for Article 50.

    With --find it ends with 1 if the picture is not in the ledger.
    """
    if as_csv and as_json:
        raise AssetsError("--csv or --json, not both")
    wanted = None if find is None else Wanted.of(find)
    with connect(server, api_key) as client:
        entries = Ledger(client).entries(tag, since)
        if wanted is not None:
            raise typer.Exit(0 if show_found(wanted, entries) else 1)
        if as_csv:
            print(as_table(entries), end="")
        elif as_json:
            for entry in entries:
                print(json.dumps(asdict(entry), ensure_ascii=False))
        else:
            show_statement(list(entries))


class Ledger:
    """Of one client's jobs. A job that was made of others takes what it does not say itself from them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, Job | None] = {}

    def entries(
        self, tag: str | None = None, since: datetime | None = None
    ) -> Iterator[LedgerEntry]:
        """Newest first."""
        local = None if since is None else since.astimezone()
        for job in self._client.jobs(status=["SUCCESS"], tag=tag, created_after=local):
            self._known[job.job_id] = job
            yield from entries_of(job.raw, (one.raw for one in self._made_of(job, set())))

    def _made_of(self, job: Job, seen: set[str]) -> Iterator[Job]:
        """The job, and all that it was made of."""
        if job.job_id not in seen:
            seen.add(job.job_id)
            yield job
            for parent in parents_of(job.raw):
                if (found := self._job(parent)) is not None:
                    yield from self._made_of(found, seen)

    def _job(self, job_id: str) -> Job | None:
        """None: it is not there any more."""
        if job_id not in self._known:
            try:
                self._known[job_id] = self._client.job(job_id)
            except Rejected as error:
                if error.status not in (404, 410):
                    raise
                self._known[job_id] = None
        return self._known[job_id]


def show_statement(entries: list[LedgerEntry]) -> None:
    """What there is, and a paragraph to paste."""
    if not entries:
        out.print("Nothing is published.")
        return
    kinds = Counter(entry.role for entry in entries)
    out.print(", ".join(f"{many} {role}" for role, many in sorted(kinds.items())))
    models = each_once(f"{e.model} ({e.model_revision})" for e in entries if e.model)
    first, last = min(e.created_at for e in entries), max(e.created_at for e in entries)
    changed = sorted(
        {effect["op"] for e in entries if e.effects for effect in json.loads(e.effects)}
    )
    after = f" Programs without AI then changed them: {', '.join(changed)}." if changed else ""
    out.print(
        f"\nPictures of this game were generated before its release, by the AI model {models or 'unknown'}"
        f" from text prompts, between {first[:10]} and {last[:10]}.{after} Each file carries the IPTC mark of"
        " media made by a trained model (trainedAlgorithmicMedia), and is listed with its hash, prompt and"
        " date."
    )


# ---- is it ours ----


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture that is looked for. `mirrored`: its `dhash` when it is turned left to right."""

    sha256: str
    imprint: Imprint
    mirrored: str

    @classmethod
    def of(cls, file: Path) -> Wanted:
        """Raises ConfigError: it cannot be read, or is no picture."""
        data = read_file(file)
        try:
            imprint = imprint_of(data)
            with Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "JPEG"]) as image:
                turned = io.BytesIO()
                ImageOps.mirror(image.convert("RGBA")).save(turned, "PNG")
        except (ValueError, OSError) as error:
            raise ConfigError(f"{file} is no picture that can be read: PNG, WebP, JPEG") from error
        digest = hashlib.sha256(data).hexdigest()
        return cls(digest, imprint, imprint_of(turned.getvalue()).dhash)

    def beside(self, entry: LedgerEntry) -> tuple[int, str] | None:
        """How near they are, 0 is the nearest, and in words. None: it is another picture."""
        if entry.sha256 == self.sha256:
            return 0, "the very file"
        if entry.pixels_sha256 == self.imprint.pixels_sha256:
            return 0, "the same pixels"
        if not entry.dhash:
            return None
        bits = distance(entry.dhash, self.imprint.dhash)
        turned = distance(entry.dhash, self.mirrored)
        if min(bits, turned) > SIMILAR_BITS:
            return None
        if bits <= turned:
            return 1 + bits, f"looks alike: {bits} of 64 bits differ"
        return 1 + turned, f"looks alike, mirrored: {turned} of 64 bits differ"


def show_found(wanted: Wanted, entries: Iterable[LedgerEntry]) -> bool:
    """The nearest ten, nearest first. False: there is none."""
    found: list[tuple[int, str, LedgerEntry]] = []
    unknown = 0
    for entry in entries:
        unknown += not entry.dhash
        if (near := wanted.beside(entry)) is not None:
            found.append((*near, entry))
    found.sort(key=lambda one: one[0])
    for _, how, entry in found[:10]:
        out.print(f"{how}\n  {entry.role} {entry.index} of job {entry.job_id}, {entry.created_at}")
        out.print(f"  {entry.disclosure}\n  {entry.prompt}")
    if not found:
        out.print("not in the ledger")
    if unknown:
        err.print(f"{unknown} files are older than these hashes; they are found as they are only.")
    return bool(found)
