"""When a destination may be told, by a clock of the test's own."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.destinations.circuit import FAILURES, PROBE_S, Circuit, State
from router.model import Attempt

OK = Attempt(status=200, latency_ms=10)
DOWN = Attempt(error="timeout", latency_ms=10)
REFUSED = Attempt(status=422, latency_ms=10)


@dataclass
class Setting:
    """A circuit, its clock, and the states it went through."""

    limit: int = 8
    now: float = 1000.0
    draw: float = 0.999
    states: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.circuit = Circuit(
            self.limit,
            changed=self.states.append,
            clock=lambda: self.now,
            jitter=lambda: self.draw,
        )

    def state(self) -> State:
        return self.circuit.state

    def hear(self, *attempts: Attempt) -> list[bool]:
        heard = []
        for attempt in attempts:
            self.now += 1.0
            heard.append(self.circuit.heard(attempt))
        return heard

    def probe(self, attempt: Attempt) -> bool:
        self.now += self.circuit.lends_in_s()
        self.circuit.probe(7)
        return self.circuit.heard(attempt)


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    setting = Setting()
    setting.hear(*[DOWN] * (FAILURES - 1), OK, *[DOWN] * (FAILURES - 1))
    assert setting.state() is State.CLOSED
    setting.hear(DOWN)
    assert setting.state() is State.OPEN
    assert setting.circuit.lends_in_s() > 0
    assert not setting.circuit.may_try(1)


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
def test_bodies_that_are_refused_open_nothing(status: int) -> None:
    setting = Setting()
    setting.hear(*[Attempt(status=status)] * (10 * FAILURES))
    assert setting.state() is State.CLOSED


@pytest.mark.parametrize("status", [None, 302, 401, 404, 408, 429, 500, 503])
def test_what_is_the_destinations_doing_opens_it(status: int | None) -> None:
    setting = Setting()
    setting.hear(*[Attempt(status=status)] * FAILURES)
    assert setting.state() is State.OPEN


def test_one_row_probes_and_its_answer_closes_the_circuit() -> None:
    setting = Setting()
    setting.hear(*[DOWN] * FAILURES)
    setting.now += setting.circuit.lends_in_s()
    assert setting.circuit.lends_in_s() == 0
    assert setting.circuit.probes
    setting.circuit.probe(7)
    assert setting.circuit.may_try(7)
    assert not setting.circuit.may_try(8)
    assert setting.circuit.lends_in_s() > 0  # one probe is enough
    assert setting.circuit.heard(REFUSED)  # an answer, though not to this body
    assert setting.states == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert setting.circuit.may_try(8)


def test_probes_come_further_apart_and_at_least_every_30_s() -> None:
    setting = Setting()
    setting.hear(*[DOWN] * FAILURES)
    pauses = []
    for _ in range(12):
        pauses.append(setting.circuit.lends_in_s())
        setting.probe(DOWN)
    assert pauses == sorted(pauses)
    assert pauses[0] <= 1.0
    assert PROBE_S - 1 < pauses[-1] <= PROBE_S


def test_a_retry_after_delays_the_probe_and_never_past_30_s() -> None:
    for asked_s, pause_s in ((20.0, 20.0), (86_400.0, PROBE_S)):
        setting = Setting()
        setting.hear(*[Attempt(status=503, retry_after_s=asked_s)] * FAILURES)
        assert setting.circuit.lends_in_s() == pause_s


def test_a_probe_that_was_given_back_is_due_at_once() -> None:
    setting = Setting()
    setting.hear(*[DOWN] * FAILURES)
    setting.now += setting.circuit.lends_in_s()
    setting.circuit.probe(7)
    setting.circuit.probe_untried(8)  # somebody else's row
    assert setting.state() is State.HALF_OPEN
    setting.circuit.probe_untried(7)
    assert setting.state() is State.OPEN
    assert setting.circuit.lends_in_s() == 0


def test_an_answer_after_several_failures_is_a_recovery_and_after_one_it_is_not() -> (
    None
):
    setting = Setting()
    assert setting.hear(OK, DOWN, OK, DOWN, DOWN, OK, OK) == [
        *(False, False, False, False, False),
        *(True, False),
    ]


def test_the_window_halves_once_for_failures_that_were_under_way_together() -> None:
    setting = Setting(limit=16)
    slow = Attempt(error="timeout", latency_ms=10_000)
    setting.now += 20
    for _ in range(4):
        setting.circuit.heard(slow)  # all began 10 s ago
    assert setting.circuit.window == 8


def test_after_a_recovery_the_window_grows_from_one_to_the_limit() -> None:
    setting = Setting(limit=8)
    setting.hear(*[DOWN] * FAILURES)
    setting.probe(OK)
    assert setting.circuit.window <= 2
    setting.hear(*[OK] * 40)
    assert setting.circuit.window == 8


def test_a_429_puts_a_gap_between_attempts_and_answers_close_it() -> None:
    setting = Setting()
    assert setting.circuit.gap_s() == 0
    setting.hear(Attempt(status=429))
    assert setting.circuit.gap_s() == 0  # the first may go at once
    second, third = setting.circuit.gap_s(), setting.circuit.gap_s()
    assert 0 < second < third
    setting.hear(*[OK] * 100)
    assert [setting.circuit.gap_s() for _ in range(3)] == [0, 0, 0]


def test_quick_answers_are_worth_larger_claims() -> None:
    quick, slow = Setting(), Setting()
    quick.hear(*[Attempt(status=200, latency_ms=2)] * 100)
    slow.hear(*[Attempt(status=200, latency_ms=900)] * 100)
    assert quick.circuit.rows > 3 * slow.circuit.rows


attempts = st.builds(
    Attempt,
    status=st.none() | st.integers(100, 599),
    latency_ms=st.integers(0, 20_000),
    retry_after_s=st.none() | st.floats(),
)


@given(st.lists(attempts), st.integers(1, 50))
def test_whatever_is_heard_it_stays_within_its_bounds(
    heard: list[Attempt], limit: int
) -> None:
    setting = Setting(limit=limit)
    for attempt in heard:
        setting.hear(attempt)
        if setting.state() is State.OPEN:
            assert 0 <= setting.circuit.lends_in_s() <= PROBE_S
        assert 1 <= setting.circuit.window <= limit
        assert setting.circuit.rows >= 1
        assert 0 <= setting.circuit.gap_s() < 1e6
