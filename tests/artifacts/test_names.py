"""Names of files: they can be read back, and nothing else is taken for one."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.artifacts.names import (
    ArtifactName,
    day_of,
    fence_of,
    is_ours,
    owner_of,
    parse_name,
    temporary_name,
)
from serve_app.params import MAX_SEED
from tests.artifacts.pictures import DAY, JOB

LAST_MS = 253_402_300_799_999  # since 1970, at the end of the year 9999


def uuid7(ms: int, random: UUID) -> str:
    """A UUIDv7 of this moment, with the random bits of a UUIDv4."""
    return str(UUID(int=ms << 80 | 7 << 76 | random.int & ((1 << 76) - 1)))


names = st.builds(
    ArtifactName,
    style_id=st.from_regex(r"[a-z0-9][a-z0-9_]{0,39}", fullmatch=True),
    seed=st.integers(0, MAX_SEED),
    job_id=st.builds(uuid7, st.integers(0, LAST_MS), st.uuids(version=4)),
    index=st.integers(0, 100),
    fence=st.integers(0, 10**6),
)


@given(names)
def test_a_name_can_be_read_back(name: ArtifactName) -> None:
    """Whatever underscores and digits the style id contains."""
    assert parse_name(str(name)) == name


@given(st.text() | names.map(lambda n: f"{n}\n") | names.map(lambda n: f"0{n}".replace("_", "_0")))
def test_only_names_of_files_are_read(text: str) -> None:
    """What can be parsed is spelled exactly as `ArtifactName` spells it."""
    parsed = parse_name(text)
    assert parsed is None or str(parsed) == text


@given(names)
def test_the_job_of_a_file_is_read_from_its_name(name: ArtifactName) -> None:
    """Of a finished and of an unfinished one, under the day of that job."""
    for file_name in (str(name), temporary_name(name)):
        assert owner_of(file_name) == name.job_id
        assert fence_of(f"{day_of(name.job_id)}/{file_name}") == name.fence
        assert is_ours(f"{day_of(name.job_id)}/{file_name}")
    assert is_ours(name.path)


NAME = str(ArtifactName("icon", 7, JOB, 0, 1))


@pytest.mark.parametrize(
    "path",
    [
        f"../{NAME}",
        f"{DAY}/../{NAME}",
        f"{DAY}/notes.txt",
        f"{DAY}/.{NAME}",
        f"{DAY}/{NAME}.tmp",
        f"moodboard/{NAME}",
        f"/{DAY}/{NAME}",
        NAME,
        "",
    ],
)
def test_no_other_path_is_ours(path: str) -> None:
    """So nothing else in the output folder is ever removed."""
    assert not is_ours(path)


def test_the_day_comes_from_the_id_of_the_job() -> None:
    """In UTC, so it does not depend on the host or on the time of the attempt."""
    assert day_of(JOB) == DAY
    assert day_of("00000000-0000-7000-8000-000000000000") == "1970-01-01"
