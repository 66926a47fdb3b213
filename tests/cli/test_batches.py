"""assets batch: a file becomes a batch, a live table and an archive; what is wrong is told line by line."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli.batches import summary, table_of
from serve_app.cli.printing import err
from serve_app.client import Batch, Client
from tests.api.harness import Site, site
from tests.cli.harness import draw_all, run

TABLE = "prompt,style_id,n\na red potion,icon,1\na blue potion,icon,1\n"
FAILS = TABLE + "two at once,icon,2\n"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    """Everything that is ordered is drawn; an order of two images fails."""
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site") as found:
        monkeypatch.setenv("ASSETS_SERVER", found.url)
        monkeypatch.chdir(tmp_path)
        drawing = found.portal.start_task_soon(draw_all, found.world)
        yield found
        drawing.cancel()


def test_a_file_is_ordered_and_waited_for_and_its_archive_saved(
    service: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("potions.csv").write_text(TABLE)
    assert run("batch", "potions.csv", "--wait") == 0
    told = capsys.readouterr()
    assert "2 orders, 2 to make" in told.err
    first, last = told.out.splitlines()
    assert last == f"{first}  SUCCESS  2 success"
    assert run("batch", "archive", first) == 0
    saved = Path(capsys.readouterr().out.strip())
    assert saved == tmp_path / "potions.zip"
    with zipfile.ZipFile(saved) as found:
        assert found.testzip() is None
        assert len(found.namelist()) == 4
    assert run("batch", "potions.csv", "--wait") == 0
    told = capsys.readouterr()
    assert "0 to make, 2 reused" in told.err
    assert told.out.splitlines()[-1].endswith("2 success; 2 reused")
    assert run("batch", "order", "potions.csv", "--dry-run") == 0
    assert "2 orders: 0 to make, 2 reused" in capsys.readouterr().out


def test_everything_wrong_in_a_file_is_a_line(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.csv").write_text("prompt,steps\n,6\na,many\n")
    assert run("batch", "wrong.csv") == 1
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert lines[0].startswith("row 1, prompt: ")
    assert lines[1].startswith("row 2, steps: ")
    assert lines[-1] == "Nothing was ordered."
    assert told.out == ""
    Path("right.csv").write_text(TABLE)
    hook = ["--webhook", "https://build.example/hook", "--webhook-event", "queued"]
    assert "webhook: this server sends no webhooks" in str(run("batch", "right.csv", *hook))
    assert "webhook_events_filter: " in str(run("batch", "right.csv", *hook[2:]))
    assert "is none of" in str(run("batch", "wrong.txt"))
    assert "cannot be read" in str(run("batch", "none.csv"))


def test_what_failed_is_told_and_ordered_again(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("potions.csv").write_text(FAILS)
    assert run("batch", "potions.csv", "--wait") == 1
    told = capsys.readouterr()
    assert "row 3  non_finite" in told.err
    made = told.out.split()[0]
    assert run("batch", "retry", made, "--wait") == 1
    assert "1 failure" in capsys.readouterr().out
    assert run("batch", "status", made) == 0
    assert run("batch", "status") == 0
    assert "potions" in capsys.readouterr().out
    assert run("batch", "cancel", made) == 0
    assert "FAILURE" in capsys.readouterr().out


def test_ctrl_c_leaves_a_batch_alone_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between two looks at it, where nearly all of the time goes."""

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "potions.csv").write_text(TABLE)
    monkeypatch.setitem(Client.__init__.__kwdefaults__ or {}, "pause", ctrl_c)
    with site(tmp_path) as served:
        monkeypatch.setenv("ASSETS_SERVER", served.url)
        assert run("batch", str(tmp_path / "potions.csv"), "--wait") == 130
        told = capsys.readouterr()
        (made,) = told.out.split()
        assert told.err.splitlines()[1:] == [
            f"Batch {made} goes on. `assets batch status {made} --wait` shows it, "
            f"`assets batch cancel {made}` ends it."
        ]
        with Client(served.url) as client:
            assert client.batch(made).status in ("PENDING", "STARTED")


def test_a_table_says_how_far_a_batch_is() -> None:
    counts = dict.fromkeys(("PENDING", "STARTED", "RETRY", "FAILURE", "REVOKED", "DELETED"), 0)
    raw: dict[str, Any] = {
        "batch_id": "b",
        "name": "potions",
        "status": "STARTED",
        "size": 8,
        "counts": counts | {"SUCCESS": 2, "PENDING": 6},
        "progress": {"value": 0.25},
        "eta_seconds": 12.4,
        "reused": {"count": 1, "rows": [[2, 2]]},
    }
    batch = Batch.of(raw)
    with err.capture() as shown:
        err.print(table_of(batch))
    assert "potions: started, 25% of 8, about 12 s left" in shown.get()
    assert summary(batch) == "b  STARTED  2 success, 6 pending; 1 reused"
    assert batch.reused_rows == [2]


def test_the_client_takes_orders_and_matrices(service: Site) -> None:
    with Client(service.url) as client:
        made = client.order_batch([{"prompt": "a key"}], name="keys", defaults={"style_id": "icon"})
        assert client.wait_batch(made.batch_id).status == "SUCCESS"
        plan = client.estimate_batch(
            matrix={"prompts": ["a {red|blue} key", "a key"]},
            name="keys",
            defaults={"style_id": "icon"},
        )
        assert (plan["size"], plan["to_make"]) == (3, 2)
        assert [batch.batch_id for batch in client.batches(name="keys")] == [made.batch_id]
        (job,) = client.jobs(batch_id=made.batch_id)
        assert job.raw["batch_id"] == made.batch_id
