"""The governor in virtual time: against windows counted here, and the fake's own meter."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.cli.fake_rules import Meter
from router.destinations.governor import (
    LATE_S,
    PAIR_BURST,
    SWEEP,
    WARY_S,
    Governor,
)

NUMBER, PERSON = "100000000000001", "5491100000001"
TINY_S = 1e-9  # what a float clock cannot tell apart


@dataclass
class Line:
    """Sends as early as the governor allows, in virtual time."""

    governor: Governor
    now: float = 0.0
    sent: list[tuple[float, str]] = field(default_factory=list)

    def send(self, recipient: str = PERSON, *, bulk: bool = False) -> float:
        while wait := self.governor.ready_in_s(NUMBER, recipient, self.now, bulk=bulk):
            self.now += max(wait, TINY_S)
        self.governor.sent(NUMBER, recipient, self.now)
        self.sent.append((self.now, recipient))
        return self.now

    def most_within(self, seconds: float, recipient: str | None = None) -> int:
        times = [at for at, who in self.sent if recipient in {None, who}]
        return max(
            sum(start <= at < start + seconds - 1e-6 for at in times) for start in times
        )


def test_a_first_message_goes_at_once() -> None:
    assert Governor().ready_in_s(NUMBER, PERSON, 5.0) == 0


def test_a_number_keeps_under_its_limit_in_every_second() -> None:
    line = Line(Governor(number_per_s=80))
    for person in range(400):
        line.send(str(person))
    assert line.most_within(1.0) <= 80
    assert line.now < 400 / 70  # and does not dawdle


@pytest.mark.parametrize("limit", [20, 80, 200])
def test_what_arrives_a_little_late_meets_no_full_second(limit: int) -> None:
    line = Line(Governor(number_per_s=limit))
    for person in range(5 * limit):
        line.send(str(person))
    # What leaves at first, a burst among it, arrives as late as may be; the rest at once.
    line.sent = [(max(at, LATE_S), who) for at, who in line.sent]
    assert line.most_within(1.0) <= limit


def test_numbers_do_not_share() -> None:
    governor = Governor(number_per_s=1)
    governor.sent(NUMBER, PERSON, 0.0)
    assert governor.ready_in_s(NUMBER, "2", 0.0) > 0
    assert governor.ready_in_s("2", PERSON, 0.0) == 0


def test_a_pair_bursts_and_then_keeps_to_one_in_six_seconds() -> None:
    line = Line(Governor())
    times = [line.send() for _ in range(PAIR_BURST + 10)]
    assert times[PAIR_BURST - 1] < 2.0  # the number's pace alone
    late = [after - before for before, after in itertools.pairwise(times[PAIR_BURST:])]
    assert late == pytest.approx([6.0] * 9)


def test_another_person_does_not_wait_for_the_first() -> None:
    line = Line(Governor(pair_burst=1))
    line.send()
    assert line.send("2") < 1.0
    assert line.send() >= 6.0


def test_read_strictly_twenty_at_once_are_two_minutes_of_silence() -> None:
    line = Line(Governor(repay=True))
    for _ in range(20):
        line.send()
    assert line.now < 1.0
    line.now = 6.5  # the burst is over
    assert line.send() == pytest.approx(120.0, abs=0.01)


def test_a_pair_that_meta_complained_about_repays_from_then_on() -> None:
    line = Line(Governor())
    line.send()
    line.governor.slow_pair(NUMBER, PERSON, line.now)
    line.now = 100.0
    for _ in range(5):
        line.send()
    assert line.now < 101.0
    line.now = 110.0
    assert line.send() == pytest.approx(130.0, abs=0.2)
    line.now = WARY_S + 200.0
    line.send()
    assert line.now == WARY_S + 200.0


def test_refusals_of_a_pair_in_a_row_wait_longer_each_time() -> None:
    governor, waits = Governor(), []
    for _ in range(6):
        governor.slow_pair(NUMBER, PERSON, 0.0)
        waits.append(governor.ready_in_s(NUMBER, PERSON, 0.0))
    assert waits == [6.0, 6.0, 16.0, 64.0, 256.0, 256.0]
    governor.accepted(NUMBER, PERSON)
    governor.slow_pair(NUMBER, PERSON, 1000.0)
    assert governor.ready_in_s(NUMBER, PERSON, 1000.0) == 6.0


def test_what_meta_asks_for_is_waited_for() -> None:
    governor = Governor()
    governor.slow_pair(NUMBER, PERSON, 0.0, 30.0)
    governor.slow_number("2", 0.0, 60.0)
    assert governor.ready_in_s(NUMBER, PERSON, 0.0) == 30.0
    assert governor.ready_in_s("2", PERSON, 0.0) == 60.0


def test_a_number_that_was_slowed_halves_once_and_recovers() -> None:
    line = Line(Governor(number_per_s=80))
    for _ in range(10):  # they were on their way together
        line.governor.slow_number(NUMBER, 0.0)
    line.now = 1.0
    for person in range(100):
        line.send(str(person))
    assert 30 <= line.most_within(1.0) <= 40
    for _ in range(60):
        line.governor.accepted(NUMBER, PERSON)
    line.sent.clear()
    line.now += 10
    for person in range(300):
        line.send(str(person))
    assert 70 <= line.most_within(1.0) <= 80


def test_a_number_finds_the_pace_of_one_that_the_app_uses_too() -> None:
    meter, line = Meter(number_per_s=20), Line(Governor())
    refused = 0
    for person in range(1000):
        line.send(str(person))
        if meter.take(NUMBER, str(person), line.now):
            refused += 1
            line.governor.slow_number(NUMBER, line.now)
        else:
            line.governor.accepted(NUMBER, str(person))
    assert refused < 100


def test_bulk_leaves_room_for_direct_replies() -> None:
    line = Line(Governor(number_per_s=80))
    for person in range(50):
        line.send(f"bulk {person}", bulk=True)
        assert line.governor.ready_in_s(NUMBER, PERSON, line.now) == 0


def test_bulk_waits_while_direct_replies_fill_the_line() -> None:
    line = Line(Governor(number_per_s=80))
    for person in range(100):
        line.send(str(person))
        if person >= 4:  # the reserve is touched
            assert line.governor.ready_in_s(NUMBER, "bulk", line.now, bulk=True) > 0


def test_a_read_mark_counts_for_the_number_alone() -> None:
    governor = Governor()
    governor.sent(NUMBER, "", 0.0)
    assert governor.pairs == 0
    governor.slow_number(NUMBER, 0.0)
    assert governor.ready_in_s(NUMBER, "", 0.0) > 0


def test_pairs_that_are_full_again_are_forgotten() -> None:
    line = Line(Governor())
    for person in range(20 * SWEEP):
        line.send(str(person))
    assert line.governor.pairs <= 2 * SWEEP
    line.send("0")


def test_a_limit_that_allows_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must allow something"):
        Governor(number_per_s=0)
    with pytest.raises(ValueError, match="must allow something"):
        Governor(pair_interval_s=0)
    with pytest.raises(ValueError, match="must allow something"):
        Governor(pair_burst=0)


STEPS = st.lists(
    st.tuples(
        st.floats(0, 30, allow_subnormal=False), st.integers(0, 3), st.booleans()
    ),
    max_size=150,
)


@given(STEPS, st.sampled_from([1, 2, 15, 80, 1000]))
def test_no_window_ever_holds_more_than_the_limits(
    steps: list[tuple[float, int, bool]], per_s: int
) -> None:
    line = Line(Governor(number_per_s=per_s))
    for pause_s, person, bulk in steps:
        line.now += pause_s if pause_s > 10 else 0.0  # mostly as fast as it may
        line.send(str(person), bulk=bulk)
    if steps:
        assert line.most_within(1.0) <= per_s
        for who in {recipient for _, recipient in line.sent}:
            for seconds in (6.0, 60.0, 600.0):
                assert line.most_within(seconds, who) <= PAIR_BURST + seconds / 6


@given(STEPS, st.booleans())
def test_metas_meter_refuses_nothing_that_the_governor_lets_pass(
    steps: list[tuple[float, int, bool]],
    repay: bool,  # noqa: FBT001 -- a case
) -> None:
    meter, line = Meter(repay=repay), Line(Governor(repay=repay))
    for pause_s, person, bulk in steps:
        line.now += pause_s if pause_s > 10 else 0.0
        line.send(str(person), bulk=bulk)
        assert meter.take(NUMBER, str(person), line.now) is None


# People tap about once in five seconds; ten times that for ten minutes.
@pytest.mark.parametrize("repay", [False, True])
def test_ten_times_the_tap_rate_never_meets_131056(
    repay: bool,  # noqa: FBT001 -- a case
) -> None:
    meter, line = Meter(repay=repay), Line(Governor(repay=repay))
    due = [(tap / 2, f"person {person}") for tap in range(1200) for person in range(5)]
    waits: dict[str, float] = {}
    refused = []
    for at, person in due:
        if waits.get(person, 0.0) > at:
            continue  # the lane's head still waits, and this tap behind it
        line.now = max(line.now, at)
        wait_s = line.governor.ready_in_s(NUMBER, person, line.now)
        waits[person] = line.now + wait_s
        if not wait_s:
            line.send(person)
            refused += [meter.take(NUMBER, person, line.now)]
    assert set(refused) == {None}
    # And nearly all that Meta would allow in that time is used.
    assert len(refused) >= 5 * 600 / 6 * 0.95


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["send", "pair", "number", "accepted"]), max_size=60))
def test_whatever_meta_answers_the_governor_never_waits_for_ever(
    answers: list[str],
) -> None:
    line = Line(Governor())
    for answer in answers:
        match answer:
            case "send":
                line.send()
            case "pair":
                line.governor.slow_pair(NUMBER, PERSON, line.now)
            case "number":
                line.governor.slow_number(NUMBER, line.now)
            case _:
                line.governor.accepted(NUMBER, PERSON)
        assert line.governor.ready_in_s(NUMBER, PERSON, line.now) <= 256 + 60 * 6
