"""One line for each pool: none holds back another, and all stay in step."""

from __future__ import annotations

from serve_app.jobs.line import Entry
from serve_app.jobs.lines import Lines, needs_renderer
from serve_app.params import CPU_POOL, DEFAULT_POOL


def entry(name: str, pool: str = DEFAULT_POOL, place: float = 1) -> Entry:
    return Entry(place, name, "ann", "ann", 1.0, pool)


def test_a_full_pool_holds_back_its_own_jobs_only() -> None:
    lines = Lines()
    for name, pool in ("a", DEFAULT_POOL), ("b", CPU_POOL), ("c", DEFAULT_POOL):
        lines.add(entry(name, pool, place=ord(name)))
    popped = lines.pop(lambda pool: pool == CPU_POOL)
    assert popped is not None
    assert popped.job_id == "b"
    assert lines.pop(lambda pool: pool == CPU_POOL) is None
    assert (len(lines), "b" in lines, "a" in lines) == (2, False, True)
    assert lines.owners == {"ann": 2}
    lines.put_back(popped)
    assert lines.pop(needs_renderer) == entry("a", place=ord("a"))
    assert lines.remove("b")
    assert not lines.remove("b")
    assert lines.remove("c")
    assert (len(lines), lines.pop(lambda _: True), lines.owners) == (0, None, {})


def test_a_job_moves_in_the_line_it_stands_in() -> None:
    lines = Lines()
    for name, pool in ("a", DEFAULT_POOL), ("b", CPU_POOL), ("c", CPU_POOL):
        lines.add(entry(name, pool, place=ord(name)))
    lines.move("c", 1.0)
    lines.move("gone", 1.0)
    assert lines.pop(lambda pool: pool == CPU_POOL) == entry("c", CPU_POOL, place=1.0)


def test_a_share_holds_in_every_line() -> None:
    """Also in one that was there before."""
    lines = Lines()
    first = lines.of(CPU_POOL)
    lines.weights = {"ann": 3.0}
    assert first.weights == lines.of(DEFAULT_POOL).weights == {"ann": 3.0}
