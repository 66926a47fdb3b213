"""pulling: `assets pull`, which keeps a folder of an engine's project in step with finished jobs.

Knows jobs as the client tells them, and which of their files an engine wants.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.artifacts.credentials.signing import Signer
from serve_app.cli.mirror import Mirror
from serve_app.cli.options import ApiKey, Server, Sign, connect, home_path
from serve_app.cli.printing import err, out
from serve_app.client import SERVER, Client, Damaged, File, Image, Job, Rejected
from serve_app.delivery.engines import ENGINES, READS, Delivered, Engine, beside, index
from serve_app.delivery.names import readable_name, safe_name
from serve_app.delivery.naming import NameTemplate

MAX_UNPACKED = 2**30
"""Bytes of a sheet's archive."""
_MANIFEST = "manifest.json"
_MADE = "made here: "
"""Begins the source of a file that no server has."""


def pull(
    directory: Annotated[
        Path, typer.Argument(parser=home_path, metavar="DIR", help="A folder of your project.")
    ],
    tag: Annotated[str | None, typer.Option(help="Only of jobs with this tag.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only of this batch, by its id.")] = None,
    names: Annotated[
        str,
        typer.Option(
            help="Of new files: {name} (as the batch has it, or prompt and seed), {row} of a batch, "
            "{prompt}, {style}, {seed}, {index}, {job}, {model}; / makes folders."
        ),
    ] = "{name}",
    engine: Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}.")] = "plain",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what finishes later, until Ctrl-C.")
    ] = False,
    sign: Sign = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Fetch finished pictures and sheets under readable names: only what is new or changed, and nothing is
    ever removed."""
    if engine not in ENGINES:
        raise typer.BadParameter(f"one of {', '.join(ENGINES)}", param_hint="--engine")
    try:
        NameTemplate(names)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--names") from error
    if batch is None and "{row" in names:
        raise typer.BadParameter("{row} is of a batch: name it with --batch", param_hint="--names")
    with connect(server, api_key) as client:
        signer = None if sign is None else Signer(sign)
        rows = RowsOfBatch(client, batch)
        puller = Pull(client, Mirror(directory), engine, signer, names, rows)
        if not watch:
            puller.all_of(tag)
            return
        try:
            follow(client, puller, tag)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


def follow(client: Client, puller: Pull, tag: str | None) -> None:
    """Everything whenever a stream begins, since jobs may have ended while there was none; then each job as
    it ends."""
    for event in client.events(on_open=lambda: puller.all_of(tag)):
        if event.kind == "status" and event.data["status"] == "SUCCESS":
            job = Job.of(event.data)
            if tag in (None, *job.tags) and puller.rows.has(job):
                puller.some([job])


class RowsOfBatch:
    """Which jobs stand for the orders of a batch, and what these are called. No `batch`: any job is wanted,
    and none has a row."""

    def __init__(self, client: Client, batch: str | None) -> None:
        self._client, self.batch = client, batch
        self._by_job: dict[str, Mapping[str, Any]] = {}

    def ask(self) -> None:
        if self.batch is not None:
            found = self._client.batch_rows(self.batch)
            self._by_job = {row["job_id"]: row for row in found if row["job_id"] is not None}

    def has(self, job: Job) -> bool:
        """Also of a job that was ordered after the last question: by a retry of the batch."""
        if self.batch is None or job.job_id in self._by_job:
            return True
        if job.raw.get("batch_id") == self.batch:
            self.ask()
        return job.job_id in self._by_job

    def of(self, job: Job) -> Mapping[str, Any]:
        """`row` and `name`."""
        return self._by_job.get(job.job_id, {"row": 0, "name": None})


class Pull:
    """From finished jobs to files in a Mirror."""

    def __init__(
        self,
        client: Client,
        mirror: Mirror,
        engine: Engine,
        signer: Signer | None = None,
        names: str = "{name}",
        rows: RowsOfBatch | None = None,
    ) -> None:
        self._client, self._mirror, self._signer = client, mirror, signer
        self._names, self.rows = names, rows or RowsOfBatch(client, None)
        self._engine: Engine = engine
        self._prompts: dict[str, str] = {}  # of jobs that others were derived from
        self._counts = Counter[str]()

    def all_of(self, tag: str | None) -> None:
        """Of every job that succeeded, the oldest first, so that what was finished anew comes last."""
        self.rows.ask()
        found = self._client.jobs(status=["SUCCESS"], tag=tag, batch_id=self.rows.batch)
        self.some([*found][::-1])

    def some(self, jobs: list[Job]) -> None:
        self._counts.clear()
        newest: dict[str, tuple[Job, Image]] = {}
        for job in jobs:
            if job.kind == "sheet" or job.is_reproduction:
                continue
            for image in job.images:
                newest[key_of(image)] = (job, image)
        for key, (job, image) in newest.items():
            self._picture(key, job, image)
        for job in jobs:
            if job.kind == "sheet" and not job.is_reproduction:
                self._sheet(job)
        self._finish()

    # ---- pictures ----

    def _picture(self, key: str, job: Job, image: Image) -> None:
        extension = image.url.rpartition(".")[2]
        path = self._mirror.path_of(key)
        if path is None or not path.endswith(f".{extension}"):
            path = self._free_path(self._name(job, image), extension)
        if not self._mirror.has(path, image.sha256):
            data = self._fetch(image.url, image.sha256)
            if data is None:
                return
            self._put(path, key, data)
        for file in image.files:
            if file.role not in ("original", "asset") and file.url != image.url:
                self._beside(path, key, file)
        if path in {entry.path for entry in self._mirror.entries}:
            self._companions(Delivered(path, image.width, image.height, 0, key))
        self._mirror.save()

    def _beside(self, path: str, key: str, file: File) -> None:
        """A normal map, and what else an effect made of the picture."""
        stem = path.rpartition(".")[0]
        own = f"{stem}_{safe_name(file.role)}.{file.url.rpartition('.')[2]}"
        if not self._mirror.has(own, file.sha256):
            data = self._fetch(file.url, file.sha256)
            if data is not None:
                self._put(own, f"{key} {file.role}", data)

    def _name(self, job: Job, image: Image) -> str:
        """By the template. Several images of one order have their index after the order's name."""
        row, prompt = self.rows.of(job), self._words(job)
        several = f"_{image.index}" if row["name"] and len(job.images) > 1 else ""
        values = {
            "row": row["row"],
            "name": f"{row['name']}{several}" if row["name"] else readable_name(prompt, image.seed),
            "prompt": prompt[:48],
            "style": job.raw["request"].get("style_id", job.kind),
            "seed": image.seed,
            "index": image.index,
            "job": job.job_id,
            "model": job.raw["request"].get("model", job.kind),
        }
        return NameTemplate(self._names).name(values, "")

    def _free_path(self, name: str, extension: str) -> str:
        number, free = 1, f"{name}.{extension}"
        while self._mirror.is_taken(free):
            number += 1
            free = f"{name}_{number}.{extension}"
        return free

    def _words(self, job: Job) -> str:
        """The prompt; of a job that draws nothing, that of the job it was derived from."""
        if job.prompt:
            return job.prompt
        parent = job.derived_from
        if parent is not None and parent not in self._prompts:
            try:
                self._prompts[parent] = self._client.job(parent).prompt
            except Rejected:  # it was deleted
                self._prompts[parent] = ""
        return self._prompts.get(parent or "", "") or job.kind

    # ---- sheets ----

    def _sheet(self, job: Job) -> None:
        archive = next((f for i in job.images for f in i.files if f.role == "archive"), None)
        if archive is None or self._is_older(job):
            return
        data = self._fetch(archive.url, archive.sha256)
        if data is None:
            return
        content = unpacked(data)
        manifest: dict[str, Any] = json.loads(content[_MANIFEST])
        name, wanted = manifest["name"], READS[self._engine]
        files = [
            file
            for file in manifest["files"]
            if wanted is None or file["role"] == "page" or file["role"] in wanted
        ]
        if wanted is not None and len(files) == len(manifest["pages"]):
            err.print(
                f"  sheet {name} of job {job.job_id} has nothing for {self._engine}: order it with "
                f"--format {wanted[0]}",
                markup=False,
                soft_wrap=True,
            )
        for file in files:
            self._put(file["path"], f"sheet {name} {job.job_id}", content[file["path"]])
        for page in manifest["pages"]:
            if page["file"] in {entry.path for entry in self._mirror.entries}:
                self._companions(
                    Delivered(page["file"], page["width"], page["height"], 0, name, "a sheet")
                )
        self._mirror.save()

    def _is_older(self, job: Job) -> bool:
        """A newer sheet of this name is there, or this very one."""
        pages = [f.name for i in job.images for f in i.files if f.role == "page"]
        here = {e.path: e.source for e in self._mirror.entries if e.source.startswith("sheet ")}
        known = [here[page].rpartition(" ")[2] for page in pages if page in here]
        whole = len(known) == len(pages) and all(self._mirror.is_taken(page) for page in pages)
        # UUIDv7: sorts by time of order.
        return whole and max(known, default="") >= job.job_id

    # ---- both ----

    def _companions(self, picture: Delivered) -> None:
        for path, data in beside(self._engine, picture).items():
            if not self._mirror.is_taken(path):
                self._put(path, f"{_MADE}{picture.path}", data)

    def _finish(self) -> None:
        """The engine's index of all that is here, and a line about what happened."""
        pictures: list[Delivered] = []
        paths = {entry.path for entry in self._mirror.entries}
        for entry in self._mirror.entries:
            if entry.path.endswith((".png", ".webp")):
                size = self._mirror.size_of(entry.path)
                atlas = entry.path.removesuffix(".png") + ".json"
                is_page = entry.source.startswith("sheet ")
                if size is not None and (not is_page or atlas in paths):
                    pictures.append(
                        Delivered(
                            entry.path, *size, entry.number, entry.source, atlas if is_page else ""
                        )
                    )
        for path, data in index(self._engine, pictures).items():
            self._put(path, f"{_MADE}all", data)
        self._mirror.save()
        if self._counts:
            said = ", ".join(f"{many} {what}" for what, many in sorted(self._counts.items()))
            out.print(f"{said}")

    def _fetch(self, url: str, sha256: str) -> bytes | None:
        """None: the server has it no more, which is said."""
        try:
            data = self._client.fetch(url)
        except Rejected as error:
            self._counts["missing on the server"] += 1
            err.print(f"  {url}: {error}", markup=False, soft_wrap=True)
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(f"{url} is not what the server said it was")
        return data

    def _put(self, path: str, source: str, data: bytes) -> None:
        signer, change = self._signer, None
        if signer is not None and path.endswith((".png", ".webp")):
            change = lambda unsigned: signer.sign(unsigned, path.rpartition("/")[2])  # noqa: E731
        happened = self._mirror.put(path, source, data, change)
        self._counts[happened] += 1
        if happened == "kept":
            err.print(f"  {path} was not written: it is not as it was pulled", soft_wrap=True)
        elif happened != "same":
            out.print(f"{happened:<8} {path}")


def key_of(image: Image) -> str:
    """The same for a picture and for all that was made of it."""
    return image.original_url


def unpacked(data: bytes) -> Mapping[str, bytes]:
    """Path -> content. Raises Damaged: no archive of a sheet, or absurdly large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > MAX_UNPACKED:
                raise Damaged("the sheet's archive is too large to unpack")
            content = {info.filename: archive.read(info) for info in infos}
    except zipfile.BadZipFile as error:
        raise Damaged("the sheet's archive is broken") from error
    if _MANIFEST not in content:
        raise Damaged("the sheet's archive has no manifest")
    return content
