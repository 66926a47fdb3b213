"""run_job: whatever breaks, the registry has the result or the outcome says why not."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.names import day_of
from serve_app.jobs.attempt import MODEL_ATTEMPTS, RegistryGone, RendererGone, run_job
from serve_app.messages import ImageFile, JobError, RenderEvent, Ticket
from tests.factories import JOB_ID, params, ticket

ADMITTED: RenderEvent = {"kind": "admitted", "replica": "r"}
FAILED: RenderEvent = {
    "kind": "failed",
    "code": "non_finite",
    "title": "The model produced NaN or infinity",
    "detail": "at step 3",
    "retryable": False,
}


def image(index: int) -> RenderEvent:
    data = BytesIO()
    Image.new("RGB", (64, 64), (index, 0, 0)).save(data, "PNG")
    return {
        "kind": "image",
        "index": index,
        "seed": 1 + index,
        "width": 64,
        "height": 64,
        "has_alpha": False,
        "data": data.getvalue(),
        "render_seconds": 0.1,
        "made_by": {"device": "cpu"},
        "notes": [],
    }


def progress(step: int) -> RenderEvent:
    return {
        "kind": "progress",
        "stage": "denoising",
        "step": step,
        "steps": 4,
        "image": 0,
        "images": 1,
    }


@dataclass
class Script:
    """A renderer that plays events, and then breaks if it is told to."""

    events: Sequence[RenderEvent]
    then: RendererGone | None = None
    closed: bool = False

    def render(self, ticket: Ticket) -> Generator[RenderEvent]:
        try:
            yield from self.events
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True


@dataclass
class Notebook:
    """A registry that writes down what it is told, and can belong to another attempt."""

    owns: bool = True
    owns_at_finish: bool = True
    silent: str = ""  # the call that gets no answer
    calls: list[str] = field(default_factory=list[str])
    images: list[ImageFile] = field(default_factory=list[ImageFile])
    error: JobError | None = None
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def admitted(self, job_id: str, fence: int, solo_seconds: float | None) -> bool:
        self._hear("admitted")
        return self.owns

    def preview(self, job_id: str, fence: int, index: int, data: bytes) -> None:
        self.calls.append(f"preview {index} {data!r}")

    def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> None:
        self.seen.append(progress)

    def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        self._hear("finish")
        self.images = images
        return self.owns_at_finish

    def fail(self, job_id: str, fence: int, error: JobError) -> bool:
        self._hear("fail")
        self.error = error
        return True

    def _hear(self, call: str) -> None:
        self.calls.append(call)
        if call == self.silent:
            raise RegistryGone("ActorDiedError")


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_good_attempt_stores_then_publishes(tmp_path: Path) -> None:
    """Images come in any order; they are published by index, with the names the order implies."""
    registry = Notebook()
    script = Script([ADMITTED, progress(1), image(1), image(0)])
    outcome = run_job(ticket(params(n=2)), script, registry, OutputDir(tmp_path))
    assert outcome["kind"] == "settled"
    assert registry.calls == ["admitted", "finish"]
    assert [i["index"] for i in registry.images] == [0, 1]
    assert sorted(str(f.relative_to(tmp_path)) for f in files(tmp_path)) == sorted(
        i["path"] for i in registry.images
    )
    assert registry.images[1]["path"].endswith(f"/none_2_{JOB_ID}_1_1.png")
    assert registry.seen[0]["value"] == 0.25


@pytest.mark.parametrize(
    ("how", "admitted", "kind"),
    [
        ("crashed", True, "died"),
        ("crashed", False, "released"),
        ("stopped", True, "stopped"),
        ("stopped", False, "released"),
        ("absent", False, "released"),
    ],
)
def test_only_a_crash_after_admission_is_a_death(
    tmp_path: Path, how: Any, admitted: bool, kind: str
) -> None:
    script = Script([ADMITTED, image(0)] if admitted else [], RendererGone(how, "gone"))
    registry = Notebook()
    outcome = run_job(ticket(params(n=2)), script, registry, OutputDir(tmp_path))
    assert outcome["kind"] == kind
    assert "finish" not in registry.calls
    assert files(tmp_path) == []


def test_a_superseded_attempt_stops_the_renderer_and_leaves_nothing(tmp_path: Path) -> None:
    script = Script([ADMITTED, image(0), image(1)])
    outcome = run_job(ticket(params(n=2)), script, Notebook(owns=False), OutputDir(tmp_path))
    assert outcome["kind"] == "settled"
    assert script.closed
    assert files(tmp_path) == []


def test_a_loser_at_the_last_moment_removes_its_files(tmp_path: Path) -> None:
    registry = Notebook(owns_at_finish=False)
    run_job(ticket(), Script([ADMITTED, image(0)]), registry, OutputDir(tmp_path))
    assert registry.calls == ["admitted", "finish"]
    assert files(tmp_path) == []


def test_a_render_error_fails_the_job_with_its_code(tmp_path: Path) -> None:
    registry = Notebook()
    run_job(
        ticket(params(n=2)), Script([ADMITTED, image(0), FAILED]), registry, OutputDir(tmp_path)
    )
    assert registry.error is not None
    assert registry.error["code"] == "non_finite"
    assert files(tmp_path) == []


def test_a_drop_by_the_engine_is_no_failure(tmp_path: Path) -> None:
    dropped: Any = {**FAILED, "code": "dropped"}
    registry = Notebook()
    outcome = run_job(ticket(), Script([ADMITTED, dropped]), registry, OutputDir(tmp_path))
    assert outcome["kind"] == "stopped"
    assert registry.error is None


def test_a_disk_that_takes_nothing_fails_the_job_with_a_clear_code(tmp_path: Path) -> None:
    """A file stands where the day's folder must be: no permission check can be skipped by root."""
    (tmp_path / day_of(JOB_ID)).write_text("in the way")
    registry = Notebook()
    outcome = run_job(ticket(), Script([ADMITTED, image(0)]), registry, OutputDir(tmp_path))
    assert outcome["kind"] == "settled"
    assert registry.error is not None
    assert registry.error["code"] == "storage_failed"
    assert str(tmp_path) not in registry.error["detail"]


def test_a_bug_fails_the_job_and_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    """A stream that ends early is nobody's plan."""
    registry = Notebook()
    run_job(ticket(params(n=3)), Script([ADMITTED, image(0)]), registry, OutputDir(tmp_path))
    assert registry.error is not None
    assert (registry.error["code"], registry.error["retryable"]) == ("internal", True)
    assert files(tmp_path) == []


@pytest.mark.parametrize("call", ["admitted", "finish", "fail"])
def test_a_registry_that_does_not_answer_is_no_fault_of_the_job(tmp_path: Path, call: str) -> None:
    """It may have published the files before it fell silent: they stay."""
    registry = Notebook(silent=call)
    events = [ADMITTED, image(0)] if call != "fail" else [ADMITTED, FAILED]
    outcome = run_job(ticket(), Script(events), registry, OutputDir(tmp_path))
    assert outcome["kind"] == "lost"
    assert registry.error is None
    assert len(files(tmp_path)) == (call == "finish")


@pytest.mark.parametrize(("admitted", "kind"), [(True, "died"), (False, "released")])
def test_an_engine_that_stopped_is_a_renderer_that_died(
    tmp_path: Path, admitted: bool, kind: str
) -> None:
    """Its orders are drawn elsewhere; none of them fails."""
    stopped: Any = {**FAILED, "code": "engine_stopped"}
    registry = Notebook()
    events = [ADMITTED, image(0), stopped] if admitted else [stopped]
    outcome = run_job(ticket(params(n=2)), Script(events), registry, OutputDir(tmp_path))
    assert (outcome["kind"], registry.error, files(tmp_path)) == (kind, None, [])


def test_weights_that_are_not_there_any_more_fail_the_job_in_the_end(tmp_path: Path) -> None:
    """At first another replica may have them: a redeploy is under way."""
    changed: Any = {**FAILED, "code": "model_changed"}
    registry, output = Notebook(), OutputDir(tmp_path)
    for fence in range(1, MODEL_ATTEMPTS):
        assert run_job(ticket(fence=fence), Script([changed]), registry, output)["kind"] == "lost"
    assert registry.error is None
    run_job(ticket(fence=MODEL_ATTEMPTS), Script([changed]), registry, output)
    assert registry.error is not None
    assert registry.error["code"] == "model_changed"


def test_an_order_of_newer_code_fails_and_is_not_tried_for_ever(tmp_path: Path) -> None:
    registry = Notebook()
    newer = ticket(params={**params().model_dump(), "invented": 1})
    outcome = run_job(newer, Script([]), registry, OutputDir(tmp_path))
    assert (outcome["kind"], registry.calls) == ("settled", ["fail"])
