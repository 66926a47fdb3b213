"""The line: fair by work between clients, by priority a head start and no more. It knows what is ahead."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.jobs.line import Entry, Line
from tests import factories

unhurried = settings(deadline=None)  # a busy machine is no failure


def entry(
    name: str, client: str = "ann", place: float = 0.0, work: float = 1.0, owner: str = "studio"
) -> Entry:
    return Entry(place, name, owner, client, work)


def ordered(name: str, priority: str, seconds: float, client: str = "ann") -> Entry:
    """As the registry makes one of a job."""
    labels = factories.labels(client=client, priority=priority)
    one = factories.job(labelled=labels, job_id=name, number=int(seconds * 1e6))
    return Entry(one.place, one.job_id, one.owner, one.client, 1.0)


def pop_all(line: Line) -> list[Entry]:
    popped: list[Entry] = []
    while (one := line.pop()) is not None:
        popped.append(one)
    return popped


def names(line: Line) -> list[str]:
    return [one.job_id for one in pop_all(line)]


def held(line: Line) -> int:
    """Everything the line remembers."""
    return len(line._entries) + len(line._clients) + len(line._heap)


# ---- another place ----


def test_a_job_that_moves_leaves_nothing_behind_where_it_was() -> None:
    """Within its client; others keep their turn. One that was put back stays before all."""
    line = Line()
    for place, name in enumerate("abc"):
        line.add(entry(name, place=place))
    line.add(entry("z", "bob"))
    line.move("c", -1.0)
    ahead = line.ahead_of("a")
    assert ahead is not None
    assert ahead.jobs == 2  # c, and bob's
    lost = line.pop()
    assert lost is not None
    assert lost == entry("c", place=-1.0)
    line.put_back(lost)
    line.move("c", 99.0)
    line.move("a", 5.0)
    assert names(line) == ["c", "z", "b", "a"]
    assert held(line) == 0


# ---- fairness ----


def test_a_client_with_a_thousand_jobs_starves_nobody() -> None:
    """Whoever comes late with one job is next but one, however long the other's tail is."""
    line = Line()
    for i in range(1000):
        line.add(entry(f"a{i}", "ann", i))
    for _ in range(100):
        line.pop()
    line.add(entry("b", "bob", 5000))
    assert "b" in [one.job_id for one in (line.pop(), line.pop()) if one]


def test_shares_follow_the_weights_by_work_not_by_jobs() -> None:
    """Small, middling and big jobs: what counts is what they ask of a device."""
    weights = {"ann": 1.0, "bob": 2.0, "cyd": 4.0}
    size = {"ann": 1.0, "bob": 7.0, "cyd": 3.0}
    line = Line(weights)
    for client in weights:
        for i in range(4000):
            line.add(entry(f"{client}{i}", client, i, size[client]))
    done: Counter[str] = Counter()
    while sum(done.values()) < 7000:  # everybody still has jobs
        one = line.pop()
        assert one is not None
        done[one.client] += one.work  # type: ignore[assignment]
    total = sum(done.values())
    for client, weight in weights.items():
        assert abs(done[client] / total - weight / 7) < 0.01, done


@unhurried
@given(
    st.lists(
        st.tuples(st.sampled_from(["ann", "bob", "cyd"]), st.integers(1, 9)),
        min_size=1,
        max_size=120,
    )
)
def test_no_client_that_waits_is_ever_more_than_a_job_behind(jobs: list[tuple[str, int]]) -> None:
    """The bound of start-time fair queueing: two clients that both wait are served, per weight, within
    one largest job of each."""
    weights = {"ann": 1.0, "bob": 2.0, "cyd": 1.0}
    line = Line(weights)
    left: Counter[str] = Counter()
    for i, (client, work) in enumerate(jobs):
        line.add(entry(f"{i}", client, i, work))
        left[client] += 1
    done = dict.fromkeys(weights, 0.0)
    while len(waiting := [c for c in weights if left[c]]) > 1:
        one = line.pop()
        assert one is not None
        done[one.client] += one.work / weights[one.client]
        left[one.client] -= 1
        served = [done[client] for client in waiting]
        assert max(served) - min(served) <= 9 + 9


def test_who_was_idle_starts_at_the_present_and_saves_up_no_credit() -> None:
    line = Line()
    for i in range(200):
        line.add(entry(f"a{i}", "ann", i))
    for _ in range(100):
        line.pop()
    for i in range(100):
        line.add(entry(f"b{i}", "bob", 1000 + i))
    next_ten = [line.pop() for _ in range(10)]
    assert Counter(one.client for one in next_ten if one) == {"ann": 5, "bob": 5}


def test_what_was_just_charged_is_remembered_while_others_wait() -> None:
    """Handing in one job at a time is no way past those who handed in all of theirs."""
    line = Line()
    for i in range(50):
        line.add(entry(f"b{i}", "bob", i))
    line.add(entry("a0", "ann", 0))
    served: list[str] = []
    for i in range(1, 41):
        one = line.pop()
        assert one is not None
        served.append(one.client)
        if one.client == "ann":
            line.add(entry(f"a{i}", "ann", 100 + i))
    assert abs(served.count("ann") - 20) <= 1


def test_work_beyond_an_order_is_charged_when_it_is_known() -> None:
    """To a client who waits, and to one whose last job this was."""
    line = Line()
    for i in range(4):
        line.add(entry(f"a{i}", "ann", i))
        line.add(entry(f"b{i}", "bob", i))
    assert [one.job_id for one in (line.pop(), line.pop()) if one] == ["a0", "b0"]
    line.charge("ann", 2.0)
    assert names(line) == ["b1", "b2", "a1", "b3", "a2", "a3"]
    line = Line()
    line.charge("ann", 2.0)
    for name in ("a0", "b0", "b1", "b2"):
        line.add(entry(name, "ann" if name == "a0" else "bob", int(name[1])))
    assert names(line) == ["b0", "b1", "a0", "b2"]
    assert held(line) == 0


def test_a_new_weight_holds_for_a_client_that_waits_already() -> None:
    """A redeploy changes the shares of a backlog, not only of those who come later."""
    line = Line()
    for client in ("ann", "bob"):
        for i in range(300):
            line.add(entry(f"{client}{i}", client, i))
    for _ in range(20):
        line.pop()
    line.weights = {"bob": 3.0}
    served = Counter(one.client for one in (line.pop() for _ in range(200)) if one)
    assert abs(served["bob"] - 150) <= 2


# ---- priorities ----


def test_a_priority_is_ten_minutes_among_ones_own_jobs() -> None:
    line = Line()
    for one in (
        ordered("normal", "normal", 1000),
        ordered("high-in-time", "high", 1000 + 599),
        ordered("high-too-late", "high", 1000 + 601),
        ordered("low-in-time", "low", 1000 - 602),
        ordered("low-too-late", "low", 1000 - 598),
    ):
        line.add(one)
    assert names(line) == [
        "low-in-time",
        "high-in-time",
        "normal",
        "high-too-late",
        "low-too-late",
    ]


def test_low_never_starves_under_an_endless_stream_of_high() -> None:
    """Three high orders every two seconds, and a device that ends one a second: the low job waits for
    those that were ordered up to twenty minutes after it, and for no others."""
    line = Line()
    line.add(ordered("low", "low", 10_000))
    before: list[float] = []
    for number in range(1, 5000):
        line.add(ordered(f"{number}", "high", 10_000 + number * 2 / 3))
        if number % 3 == 0:
            continue
        one = line.pop()
        assert one is not None
        if one.job_id == "low":
            assert len(before) == max(before) * 3 / 2
            assert 1195 < max(before) <= 1200
            return
        before.append(int(one.job_id) * 2 / 3)
    raise AssertionError("it never went")


def test_a_priority_takes_nothing_from_other_clients() -> None:
    line = Line()
    for i in range(100):
        line.add(ordered(f"a{i}", "high", i, "ann"))
        line.add(ordered(f"b{i}", "low", i, "bob"))
    served = Counter(one.client for one in (line.pop() for _ in range(60)) if one)
    assert served == {"ann": 30, "bob": 30}


# ---- remove ----


@unhurried
@given(st.data())
def test_what_was_removed_never_comes_and_nobody_pays_for_it(data: st.DataObject) -> None:
    """The others come as if it had never been there."""
    drawn = data.draw(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(1, 4)), max_size=25
        )
    )
    jobs = [entry(f"{i}", client, key, work) for i, (client, key, work) in enumerate(drawn)]
    gone = {job.job_id for job in jobs if data.draw(st.booleans())}
    line, without = Line(), Line()
    for job in jobs:
        line.add(job)
        if job.job_id not in gone:
            without.add(job)
    for job_id in gone:
        assert line.remove(job_id)
        assert not line.remove(job_id)
        assert job_id not in line
        assert line.ahead_of(job_id) is None
    assert len(line) == len(without)
    assert names(line) == names(without)


def test_a_job_is_in_the_line_once() -> None:
    line = Line()
    line.add(entry("a"))
    line.add(entry("a"))
    assert (len(line), names(line)) == (1, ["a"])


# ---- what is ahead ----

EQUAL = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cyd", "dan"]), st.integers(0, 9)),
    min_size=1,
    max_size=40,
)
WEIGHTS = st.fixed_dictionaries({"ann": st.sampled_from([0.5, 1, 2, 4]), "bob": st.just(2.0)})


@unhurried
@given(EQUAL, WEIGHTS, st.integers(0, 15))
def test_what_is_ahead_of_equal_jobs_is_exact(
    jobs: list[tuple[str, int]], weights: dict[str, float], popped: int
) -> None:
    """Without new arrivals as many jobs enter before it as was said, and as much work."""
    line = Line(weights)
    for i, (client, key) in enumerate(jobs):
        line.add(entry(f"{i:03}", client, key, 4.0))
    for _ in range(popped):
        line.pop()
    said = {job_id: line.ahead_of(job_id) for job_id in list(line._entries)}
    for ahead, one in enumerate(pop_all(line)):
        told = said[one.job_id]
        assert told is not None
        assert (told.jobs, told.work) == (ahead, 4.0 * ahead)


@unhurried
@given(EQUAL, WEIGHTS, st.sampled_from(["ann", "bob", "cyd", "new"]), st.integers(0, 15))
def test_what_is_ahead_of_a_new_job_is_what_it_gets(
    jobs: list[tuple[str, int]], weights: dict[str, float], client: str, popped: int
) -> None:
    line = Line(weights)
    for i, (other, key) in enumerate(jobs):
        line.add(entry(f"{i:03}", other, key, 4.0))
    for _ in range(popped):
        line.pop()
    said = line.ahead_of_new(client)
    line.add(entry("new", client, 99, 4.0))
    assert line.ahead_of("new") == said
    assert names(line).index("new") == said.jobs


UNEQUAL = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cyd"]), st.floats(0.1, 50)), min_size=1, max_size=40
)


@unhurried
@given(UNEQUAL)
def test_what_is_ahead_of_unequal_jobs_keeps_what_can_be_kept(
    jobs: list[tuple[str, float]],
) -> None:
    """They count a client's jobs as equally long, so between clients they are estimates. Even so: its
    client's own come before it, none of what comes after it does, nobody is counted twice, and no
    estimate is below zero or above what waits."""
    line = Line()
    for i, (client, work) in enumerate(jobs):
        line.add(entry(f"{i:03}", client, i, work))
    total = sum(work for _, work in jobs)
    rank: Counter[str] = Counter()
    for i, (client, _) in enumerate(jobs):
        told = line.ahead_of(f"{i:03}")
        assert told is not None
        after = sum(other == client for other, _ in jobs[i:])
        assert rank[client] <= told.jobs <= len(jobs) - after
        assert 0 <= told.work <= total * (1 + 1e-9)
        rank[client] += 1


def test_what_is_ahead_of_unequal_jobs_is_estimated_to_a_tenth_of_the_line() -> None:
    """Four clients, 200 jobs of 1 to 16 units in any order: half of the estimates are within 4, and 95 of
    100 within a tenth of the line, in jobs and in work."""
    apart: list[int] = []
    work_apart: list[float] = []
    for seed in range(20):
        drawn, line = random.Random(seed), Line()
        for i in range(200):
            line.add(entry(f"{i:03}", drawn.choice("abcd"), i, drawn.uniform(1, 16)))
        total = sum(one.work for one in line._entries.values())
        said = {job_id: line.ahead_of(job_id) for job_id in list(line._entries)}
        before = 0.0
        for ahead, one in enumerate(pop_all(line)):
            told = said[one.job_id]
            assert told is not None
            apart.append(abs(told.jobs - ahead))
            work_apart.append(abs(told.work - before) / total)
            before += one.work
    assert statistics.median(apart) <= 4
    assert statistics.quantiles(apart, n=20)[18] <= 20
    assert statistics.quantiles(work_apart, n=20)[18] <= 0.1


@unhurried
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30), st.integers(0, 30))
def test_rounding_errors_put_nothing_negative_ahead(works: list[float], popped: int) -> None:
    """Sums of floats do not come back to zero, and jobs that paid for their turn weigh nothing."""
    line = Line()
    for i, work in enumerate(works):
        line.add(entry(f"a{i}", "ann", i, work))
    line.add(entry("free", "ann", 99, 0.0))
    line.add(entry("b", "bob", 99, 1.0))
    for _ in range(min(popped, len(works))):
        line.pop()
    for job_id in list(line._entries):
        told = line.ahead_of(job_id)
        assert told is not None
        assert 0 <= told.jobs < len(line)
        assert told.work >= 0


# ---- size ----


def test_nothing_is_held_when_the_line_is_empty() -> None:
    """Names of clients are free to choose: one for each job leaves nothing behind."""
    line = Line()
    for i in range(5000):
        line.add(entry(f"{i}", f"client-{i}", i))
    pop_all(line)
    assert held(line) == 0


def test_clients_that_come_and_go_are_forgotten_while_others_wait() -> None:
    """Ever new names beside a backlog: only the few that are still in debt are known."""
    line = Line()
    for i in range(20_000):
        line.add(entry(f"a{i}", "ann", i))
    for i in range(9000):
        line.add(entry(f"b{i}", f"client-{i}", i))
        line.pop()
        line.pop()
    assert len(line._clients) < 100
    assert len(line._heap) < 100


def test_clients_whose_jobs_were_removed_are_forgotten() -> None:
    line = Line()
    for i in range(1000):
        line.add(entry(f"{i}", f"client-{i}", i))
        line.remove(f"{i}")
    assert line.pop() is None
    assert held(line) == 0


def test_a_hundred_thousand_jobs_of_as_many_clients_are_no_burden() -> None:
    """Processor time is asked for generously: what is linear in the clients fails by far."""
    begun = time.process_time()
    line = Line()
    for i in range(100_000):
        line.add(entry(f"{i}", f"client-{i}", i))
    assert len(pop_all(line)) == 100_000
    assert time.process_time() - begun < 30


def test_a_hundred_thousand_jobs_of_few_clients_are_no_burden() -> None:
    begun = time.process_time()
    line = Line()
    for i in range(100_000):
        line.add(
            entry(f"{i}", f"client-{i % 3}", -i)
        )  # each before all the others: the worst order
    for i in range(0, 100_000, 100):
        assert line.ahead_of(f"{i}") is not None
        line.ahead_of_new("client-1")
    for i in range(0, 100_000, 2):
        assert line.remove(f"{i}")
    assert len(pop_all(line)) == 50_000
    assert time.process_time() - begun < 30


# ---- whose jobs wait ----


@unhurried
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "back", "pop", "remove"]), st.integers(0, 9)), max_size=40
    )
)
def test_the_jobs_of_an_owner_are_counted(moves: list[tuple[str, int]]) -> None:
    """Under whatever names of clients, and wherever in the line they are; no owner is kept for nothing."""
    line, waiting = Line(), dict[str, str]()
    for move, number in moves:
        one = entry(f"{number}", client="abcd"[number % 4], owner="xyz"[number % 3])
        if move == "add":
            line.add(one)
        elif move == "back":
            line.put_back(one)
        elif move == "remove":
            line.remove(one.job_id)
        elif (popped := line.pop()) is not None:
            del waiting[popped.job_id]
        if move in ("add", "back"):
            waiting[one.job_id] = one.owner
        elif move == "remove":
            waiting.pop(one.job_id, None)
        assert line.owners == Counter(waiting.values())
