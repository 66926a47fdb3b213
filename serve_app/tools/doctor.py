"""doctor: what an operator could have wrong on this machine, each with what to do about it.

`check` knows what keeps a service from starting. This looks at disks, limits, files of secrets and the
service that runs, too. Changes nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from serve_app import __version__
from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.jobs.store.copies import about
from serve_app.jobs.store.directory import holder_of
from serve_app.object_address import ObjectAddress
from serve_app.tools.check import check
from serve_app.tools.doctor_redis import of_redis
from serve_app.tools.findings import Finding, Level
from serve_app.tools.lint import settings_in

GIB = 2**30
LEAST_ROOM, LITTLE_ROOM = 1 * GIB, 10 * GIB
RAY_STOPS_AT = 0.95  # of a disk: Ray's `local_fs_capacity_threshold`
FEW_DESCRIPTORS = 8192
LITTLE_SHARED, LITTLE_MEMORY = 1 * GIB, 2 * GIB
CLOCK_OFF_S = 10.0
NETWORK = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "gluster", "lustre", "afs", "beegfs")
"""Beginnings of the names of file systems whose locks SQLite cannot trust."""


def examine(config: Path, http: httpx.Client) -> Iterator[Finding]:
    """Everything, as it is found. `http`: asks where the service should answer."""
    try:
        check(config)
        yield Finding("ok", "config", f"{config}: nothing is wrong")
    except ConfigError as error:
        for line in error.detail.splitlines():
            yield Finding(
                "wrong", "config", line, "mend that line; see configs/README.md, Settings"
            )
    runs = False
    with suppress(ConfigError):  # told above
        for settings in settings_in(config).values():
            state, output = settings.path(settings.state_dir), settings.output_folder
            if settings.redis_url is None:
                runs = runs or holder_of(state) is not None
                yield from _of_store(state)
            else:
                findings, used = of_redis(settings.redis_url, settings)
                runs = runs or used
                yield from findings
            yield _room("state_dir", state)
            if output is not None:
                yield from _of_output(output)
                yield _room("output_dir", output)
            elif settings.output is not None:
                yield _of_bucket(ObjectAddress.parse(settings.output))
            yield from _of_secrets(settings)
    yield from _of_machine()
    yield from _of_service(http, expected=runs)


def _of_store(state: Path) -> Iterator[Finding]:
    kind = _file_system(state)
    if kind.startswith(NETWORK):
        yield Finding(
            "wrong",
            "state_dir",
            f"{state} is on a network file system ({kind})",
            "name a folder on a local disk of the head node: SQLite's locks do not hold there",
        )
    holder = holder_of(state)
    used = f"used by {holder}" if holder else "used by nobody now"
    store = state / "jobs.db"
    if not store.exists() or not store.stat().st_size:
        yield Finding("ok", "job store", f"none yet in {state}, {used}")
        return
    try:
        found = about(store)
    except ConfigError as error:
        yield Finding(
            "wrong",
            "job store",
            error.detail,
            "`assets restore FOLDER --replace` brings a backup back",
        )
        return
    yield Finding("ok", "job store", f"{found.jobs} jobs, {found.live} not ended, {used}")


def _of_output(output: Path) -> Iterator[Finding]:
    if not output.is_dir():
        return
    try:
        with tempfile.TemporaryDirectory(dir=output, prefix=".doctor-") as folder:
            (Path(folder) / "one").touch()
            os.link(Path(folder) / "one", Path(folder) / "two")
    except OSError as error:
        yield Finding(
            "wrong",
            "output_dir",
            f"{output} takes no second name for a file ({error.strerror})",
            "name a folder on a file system with hard links, that this user may write",
        )


def _of_bucket(address: ObjectAddress) -> Finding:
    try:
        from serve_app.artifacts.objects import ObjectStorage

        version, expires = ObjectStorage(address).try_out()
    except ConfigError as error:
        return Finding("wrong", "output", error.detail, "or leave `output` out, for a folder")
    except OSError as error:
        said = f"{address.url}: {error.strerror}"
        return Finding("wrong", "output", said, "configs/README.md, An object store")
    if expires:
        said = f"{address.url}: a lifecycle rule deletes what is stored there ({expires})"
        advice = "take the prefix out of the rule; `retention_days` deletes jobs with their files"
        return Finding("wrong", "output", said, advice)
    if version:
        said = f"{address.url} keeps versions: what is deleted still takes room"
        return Finding("note", "output", said, "a rule that deletes old versions is harmless")
    return Finding("ok", "output", f"{address.url} takes files, and never twice under one name")


def _room(what: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    said = f"{free / GIB:.1f} GiB free on the disk of {folder}"
    if free < LEAST_ROOM:
        return Finding("wrong", what, said, "make room: without any, jobs wait for `storage`")
    if free < LITTLE_ROOM:
        advice = "make room soon, or set `retention_days`, which deletes finished jobs"
        return Finding("note", what, said, advice)
    return Finding("ok", what, said)


def _of_secrets(settings: Settings) -> Iterator[Finding]:
    """Keys are hashed, so others may read them but not write; webhook secrets are not."""
    for what, file, forbidden, verb in (
        ("api_keys_file", settings.api_keys_file, 0o022, "write"),
        ("webhooks_file", settings.webhooks_file, 0o077, "read"),
    ):
        if file is None or not (path := settings.path(file)).exists():
            continue
        if path.stat().st_mode & forbidden:
            said = f"other users may {verb} {path}"
            yield Finding("wrong", what, said, f"chmod 600 {path}")
        else:
            yield Finding("ok", what, f"{path} is kept from other users")


def _of_machine() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FEW_DESCRIPTORS:
        yield Finding(
            "note",
            "descriptors",
            f"a process here may open {soft} files and connections",
            f"`ulimit -n {hard}` before the start: each open page and event stream takes one",
        )
    else:
        yield Finding("ok", "descriptors", f"{soft} for each process")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        if size < LITTLE_SHARED:
            yield Finding(
                "note",
                "shared memory",
                f"/dev/shm has {size / GIB:.2f} GiB",
                "Ray hands pictures on through it and is slow without: `--shm-size 2g` in Docker",
            )
        else:
            yield Finding("ok", "shared memory", f"{size / GIB:.1f} GiB")
    free = _memory()
    advice = "" if free >= LITTLE_MEMORY else "Ray ends processes where memory runs out: free some"
    level: Level = "note" if advice else "ok"
    yield Finding(level, "memory", f"{free / GIB:.1f} GiB can be had", advice)
    yield _ray_disk()
    if (stale := _stale_cluster()) is not None:
        yield Finding(
            "note",
            "Ray's address",
            f"{stale} names a cluster that does not answer; plain `serve run` waits 100 s for it",
            f"rm {stale}",
        )
    if (problem := _torch_without_gpu()) is not None:
        yield problem


def _memory() -> int:
    """Bytes that can be had without swapping, as the kernel reckons (proc_meminfo(5), MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no line of MemAvailable")


def _ray_disk() -> Finding:
    usage = shutil.disk_usage(tempfile.gettempdir())
    full = 1 - usage.free / usage.total
    said = f"the disk of {tempfile.gettempdir()}, where Ray keeps its logs, is {full:.0%} full"
    if full >= RAY_STOPS_AT:
        return Finding(
            "wrong", "Ray's disk", said, "make room there: from 95% on Ray takes no work"
        )
    return Finding("ok", "Ray's disk", said)


def _stale_cluster() -> Path | None:
    note = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    try:
        host, _, port = note.read_text().strip().rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1):
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return note


def _torch_without_gpu() -> Finding | None:
    """A GPU beside a PyTorch that cannot use one."""
    devices = [*Path("/dev").glob("nvidia[0-9]*")]
    if not devices:
        return None
    version = importlib.metadata.version("torch")
    if version.endswith("+cpu"):
        advice = f"pip install torch=={version.removesuffix('+cpu')}, a build for CUDA"
        return Finding("wrong", "GPU", f"PyTorch {version} cannot use the GPU here", advice)
    return Finding("ok", "GPU", f"{len(devices)} of them, PyTorch {version}")


def _of_service(http: httpx.Client, *, expected: bool) -> Iterator[Finding]:
    """`expected`: something holds the store, so a service should answer."""
    server = str(http.base_url)
    try:
        before = time.time()
        ready = http.get("/readyz")
        yield _readiness(server, ready)
        yield from _clock(ready, (before + time.time()) / 2)
        yield from _version(http)
    except httpx.HTTPError as error:
        said = f"nothing answers at {server} ({error})"
        if expected:
            advice = "a registry runs: `assets deploy --status`; or name the address by --server"
            yield Finding("wrong", "service", said, advice)
        else:
            yield Finding("note", "service", said, "`assets run` starts one")


def _readiness(server: str, reply: httpx.Response) -> Finding:
    if reply.status_code == 200:
        return Finding("ok", "service", f"{server} would serve a job")
    try:
        reason = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return Finding(
            "wrong",
            "service",
            f"{server} answers with {reply.status_code}, not as this service does",
            "name its address by --server, or deploy",
        )
    return Finding(
        "wrong",
        "service",
        f"{server} would not serve a job: {reason}",
        "configs/README.md, When something is wrong",
    )


def _clock(reply: httpx.Response, here: float) -> Iterator[Finding]:
    with suppress(KeyError, ValueError):
        off = parsedate_to_datetime(reply.headers["date"]).timestamp() - here
        if abs(off) > CLOCK_OFF_S:
            said = f"the service's clock is {off:+.0f} s off this machine's"
            advice = "let both ask a time server: deadlines and webhook signatures go by the clock"
            yield Finding("note", "clock", said, advice)


def _version(http: httpx.Client) -> Iterator[Finding]:
    reply = http.get("/openapi.json")
    with suppress(ValueError, KeyError, TypeError):
        serving = reply.json()["info"]["version"]
        if serving != __version__:
            said = f"the service is release {serving}, this is {__version__}"
            yield Finding("note", "release", said, "`assets deploy`, or start it again")


def _file_system(path: Path) -> str:
    """The kind of file system that holds `path`, as /proc/self/mountinfo names it (proc_pid_mountinfo(5));
    empty where there is no such file."""
    there = str(next(p for p in (path.resolve(), *path.resolve().parents) if p.exists()))
    best, kind = "", ""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            mount = left.split()[4].replace("\\040", " ")
            inside = there == mount or there.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, right.split()[0]
    return kind
