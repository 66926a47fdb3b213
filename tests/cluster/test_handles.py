"""The environment of the processes that run this code, without a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serve_app.cluster.handles import STAMP, code_version, quoted_python, worker_env


def test_the_version_of_the_code_and_the_stamp_are_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(STAMP, "abc")
    given = worker_env(MORE="1")["env_vars"]
    assert given == {"ASSETS_CODE": code_version(), STAMP: "abc", "MORE": "1"}
    monkeypatch.delenv(STAMP)
    assert STAMP not in worker_env()["env_vars"]


@pytest.mark.parametrize("folder", ["/home/my games", "/home/it's", "/home/spiel-ä"])
def test_an_interpreter_that_a_shell_would_misread_is_quoted(folder: str) -> None:
    quoted = quoted_python(f"{folder}/python")["py_executable"]
    assert quoted.startswith("'")


def test_an_ordinary_interpreter_is_left_to_each_node() -> None:
    assert quoted_python("/usr/bin/python3") == {}


def test_the_process_of_job_tasks_gives_way_once_and_never_more_than_the_operator_said() -> None:
    """In a process of its own: niceness is never taken back."""
    asks = (
        "from serve_app.cluster.handles import give_way; give_way(); give_way(); print(os.nice(0))"
    )
    for niced, expected in ((0, "5"), (3, "5"), (15, "15")):
        code = f"import os; os.nice({niced} - os.nice(0)); {asks}"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [expected]
