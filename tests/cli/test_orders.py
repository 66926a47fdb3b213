"""assets generate and assets retry."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serve_app.cli.orders import control_of
from tests.api.harness import Site
from tests.cli.harness import OTHER, Talk, finished, run
from tests.factories import JOB_ID
from tests.jobs.harness import ERROR
from tests.scripted import job_object, problem, reply


def test_generate_prints_path_and_url(
    service: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "mine"
    assert run("generate", "a red potion", "--style", "icon", "--out", str(to)) == 0
    path, url = capsys.readouterr().out.splitlines()
    (name,) = service.world.files.names()
    assert Path(path) == to / name
    assert Path(path).read_bytes() == (service.world.files.root / name).read_bytes()
    assert url == f"{service.url}/output/{name}  (seed 1)"


def test_generate_without_out_prints_the_url(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "a red potion", "--seed", "7") == 0
    assert capsys.readouterr().out.startswith(f"{service.url}/output/")


def test_a_failed_job_ends_with_its_reason(service: Site) -> None:
    message = run("generate", "a red potion", "-n", "2")
    assert isinstance(message, str)
    assert message.endswith(f"ended as FAILURE: {ERROR['title']}: {ERROR['detail']}")


def test_a_wrong_order_ends_with_one_line(service: Site) -> None:
    message = run("generate", "a red potion", "--style", "nope")
    assert message == "assets: style_id: no such style (allowed: icon, none, portrait)"


def test_a_size_of_another_form_is_told_in_words(service: Site) -> None:
    """And no regular expression."""
    message = run("generate", "a red potion", "--size", "256")
    assert message == (
        "assets: size: Should be WIDTHxHEIGHT in pixels, as in 128x128 (allowed: WIDTHxHEIGHT in pixels, "
        "as in 128x128, null)"
    )


def test_a_style_of_another_model_comes_with_the_next_step(service: Site) -> None:
    """What can be ordered here, and how the other model is served."""
    message = str(run("generate", "a red potion", "--style", "portrait"))
    assert (
        "models that can: other. To serve other, whoever runs the server sets `model: other`"
        in message
    )
    assert message.endswith("(allowed: none, icon)")


def test_an_order_without_a_style_leaves_it_to_the_server(talk: Talk) -> None:
    server = talk(reply(finished(), 202), reply(finished()))
    assert run("generate", "a red potion") == 0
    assert b"style_id" not in server.requests[0].content


def test_an_order_with_every_wish(talk: Talk) -> None:
    server = talk(reply(finished(), 202), reply(finished()))
    wishes = ["--priority", "high", "--tag", "a", "--tag", "b", "--cancel-after", "90"]
    assert run("generate", "a red potion", *wishes) == 0
    (order, _) = server.requests
    assert order.headers["cancel-after"] == "90"
    assert b'"priority":"high"' in order.content
    assert b'"tags":["a","b"]' in order.content


def test_an_order_without_wishes_is_as_before(talk: Talk) -> None:
    server = talk(reply(finished(), 202), reply(finished()))
    assert run("generate", "a red potion") == 0
    assert b"priority" not in server.requests[0].content
    assert b"tags" not in server.requests[0].content
    assert "cancel-after" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.46, "possible, about 3.5 s\n"), (None, "possible, time unknown\n")]
)
def test_a_dry_run_prints_the_estimate(
    talk: Talk, capsys: pytest.CaptureFixture[str], seconds: float | None, words: str
) -> None:
    said = {"request": {}, "resolved": {}, "estimated_seconds": seconds, "possible": True}
    server = talk(httpx.Response(200, json={**said, "reason": None, "notes": ["a [note]"]}))
    assert run("generate", "a red potion", "--dry-run") == 0
    assert capsys.readouterr() == (words, "  a [note]\n")
    assert b'"dry_run":true' in server.requests[0].content


def test_a_dry_run_of_what_cannot_be(talk: Talk) -> None:
    said = {"estimated_seconds": None, "possible": False, "reason": "too large for the device"}
    talk(httpx.Response(200, json=said))
    message = run("generate", "a red potion", "--dry-run")
    assert message == "assets: not possible: too large for the device"


def test_a_retry_waits_and_saves(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    new = job_object(job_id=OTHER, retry_of=JOB_ID)
    server = talk(reply(new, 202), reply(new), reply(finished(OTHER)))
    assert run("retry", JOB_ID) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8000/output/x.png  (seed 7)\n"
    assert server.asked == [
        f"POST /v1/jobs/{JOB_ID}/retry",
        f"GET /v1/jobs/{OTHER}",
        f"GET /v1/jobs/{OTHER}",
    ]


def test_a_retry_of_a_job_that_lives_is_one_clear_line(talk: Talk) -> None:
    talk(problem(409, "not_final"))
    assert run("retry", JOB_ID) == "assets: It is not_final."


def test_pictures_are_uploaded_by_themselves(service: Site, tmp_path: Path) -> None:
    """The order names what the server called them."""
    for name in ("init", "mask"):
        Image.new("RGB", (64, 64), "teal" if name == "init" else "white").save(
            tmp_path / f"{name}.png"
        )
    said = ("--init", str(tmp_path / "init.png"), "--mask", str(tmp_path / "mask.png"))
    assert run("generate", "a red potion", *said, "--strength", "0.5") == 0
    job = httpx.get(f"{service.url}/v1/jobs").json()["results"][0]
    uploads = [job["request"][field]["upload_id"] for field in ("init_image", "mask_image")]
    assert len(set(uploads)) == 2
    assert job["request"]["strength"] == 0.5
    missing = str(run("generate", "a", "--init", str(tmp_path / "none.png")))
    assert missing.startswith("assets: ")
    assert "No such file" in missing
    (tmp_path / "text.png").write_text("no picture")
    wrong = str(run("generate", "a", "--init", str(tmp_path / "text.png")))
    assert "no picture that can be read (allowed: PNG, WebP, JPEG)" in wrong


def test_a_picture_of_a_control_is_uploaded_too(
    service: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tests' model has no ControlNet, and the server says so."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a:b.png")
    said = str(run("generate", "a door", "--control", f"canny={tmp_path / 'a:b.png'}:0.5"))
    assert said.startswith("assets: control.0.type: tiny has no ControlNet 'canny'")
    assert control_of("canny=a:b.png") == ("canny", Path("a:b.png"), None)
    assert control_of("canny=a:b.png:0.5") == ("canny", Path("a:b.png"), 0.5)
    assert run("generate", "a", "--control", "canny") == 2
    assert "write it like canny=edges.png" in capsys.readouterr().err


def test_effects_gates_and_formats_are_sent_as_they_were_given(talk: Talk) -> None:
    """A name, or an object; `--plain` turns the style's off."""
    server = talk(reply(finished(), 202), reply(finished()))
    effects = ["--effect", "cutout", "--effect", '{"op": "pixelate", "width": 32}']
    gates = ["--require", "seam=1.3", "--require", "not_blank=true", "--redraws", "2"]
    assert run("generate", "a wall", *effects, *gates, "--format", "webp") == 0
    sent = json.loads(server.requests[0].content)
    assert sent["effects"] == [{"op": "cutout"}, {"op": "pixelate", "width": 32}]
    assert sent["require"] == {"seam": 1.3, "not_blank": True}
    assert (sent["redraws"], sent["format"]) == (2, "webp")
    server = talk(reply(finished(), 202), reply(finished()))
    assert run("generate", "a wall", "--plain") == 0
    assert json.loads(server.requests[0].content)["effects"] == []
    server = talk(reply(finished(), 202), reply(finished()))
    assert run("generate", "a wall") == 0
    assert "effects" not in json.loads(server.requests[0].content)


def test_what_is_no_effect_or_gate_is_said_before_anything_is_ordered(talk: Talk) -> None:
    server = talk()
    assert "not JSON" in str(run("generate", "a wall", "--effect", '{"op": '))
    assert "write it like seam=1.3" in str(run("generate", "a wall", "--require", "seam"))
    assert "name at least one effect" in str(run("derive", JOB_ID))
    assert server.asked == []


def test_a_job_is_derived_waited_for_and_shown(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    server = talk(reply(job_object(job_id=OTHER), 202), reply(finished(OTHER)))
    options = ["--effect", "trim", "--image", "1", "--image", "0", "--format", "png"]
    assert run("derive", JOB_ID, *options) == 0
    assert server.asked == [f"POST /v1/jobs/{JOB_ID}/derive", f"GET /v1/jobs/{OTHER}"]
    sent = json.loads(server.requests[0].content)
    assert sent == {"effects": [{"op": "trim"}], "indices": [1, 0], "format": "png"}
    assert server.requests[0].headers["Idempotency-Key"]
    assert "/output/x.png" in capsys.readouterr().out
