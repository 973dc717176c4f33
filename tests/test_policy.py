from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import RETRY_SCHEDULE_S
from router.destinations.policy import (
    RETRY_AFTER_CAP_S,
    Dead,
    Done,
    Retry,
    blames_destination,
    decide,
    retry_after_s,
)
from router.model import Attempt

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SCHEDULE = RETRY_SCHEDULE_S
SOMEDAY = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 408, 425, 429, 500, 503})


def whole() -> float:
    return 0.0  # of [0, 1): nothing is taken off the pause


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_done(status: int) -> None:
    assert decide(Attempt(status=status), 1, SCHEDULE, whole) == Done()


def test_410_is_dead_at_once() -> None:
    assert decide(Attempt(status=410), 1, SCHEDULE, whole) == Dead("gone: HTTP 410")


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_body_that_is_never_taken_is_dead_after_three_attempts(status: int) -> None:
    made = [decide(Attempt(status=status), n, SCHEDULE, whole) for n in (1, 2, 3)]
    assert made[:2] == [Retry(5, f"HTTP {status}"), Retry(300, f"HTTP {status}")]
    assert made[2] == Dead(f"never taken: HTTP {status} after 3 attempts")


@pytest.mark.parametrize("status", [None, 100, *sorted(SOMEDAY), 599])
def test_everything_else_follows_the_schedule_and_is_dead_after_it(
    status: int | None,
) -> None:
    attempt = Attempt(status=status, error=None if status else "timeout")
    said = f"HTTP {status}" if status else "timeout"
    made = [decide(attempt, n, SCHEDULE, whole) for n in range(1, 9)]
    assert made[:7] == [Retry(pause, said) for pause in SCHEDULE]
    assert made[7] == Dead(f"given up: {said} after 8 attempts")


def test_an_answer_of_2xx_that_broke_off_is_done() -> None:
    assert decide(Attempt(status=200, error="timeout"), 1, SCHEDULE, whole) == Done()


@pytest.mark.parametrize(("draw", "pause_s"), [(0.0, 5.0), (0.5, 2.5), (0.75, 1.25)])
def test_jitter_spreads_the_attempts_over_the_whole_pause(
    draw: float, pause_s: float
) -> None:
    decision = decide(Attempt(status=500), 1, SCHEDULE, lambda: draw)
    assert isinstance(decision, Retry)
    assert decision.delay_s == pytest.approx(pause_s)


def test_retry_after_only_makes_a_pause_longer() -> None:
    later = Attempt(status=429, retry_after_s=60)
    sooner = Attempt(status=429, retry_after_s=1)
    assert decide(later, 1, SCHEDULE, whole) == Retry(60, "HTTP 429")
    assert decide(sooner, 1, SCHEDULE, whole) == Retry(5, "HTTP 429")
    assert decide(sooner, 1, SCHEDULE, lambda: 0.99) == Retry(1, "HTTP 429")


def test_retry_after_saves_nobody_from_the_end_of_the_schedule() -> None:
    attempt = Attempt(status=429, retry_after_s=60)
    assert isinstance(decide(attempt, 8, SCHEDULE, whole), Dead)


@pytest.mark.parametrize(
    ("status", "blamed"),
    [
        *((status, True) for status in (None, *sorted(SOMEDAY))),
        *((status, False) for status in (200, 204, 400, 410, 413, 415, 422)),
    ],
)
def test_a_body_that_is_refused_says_nothing_of_its_destination(
    status: int | None,
    blamed: bool,  # noqa: FBT001
) -> None:
    assert blames_destination(Attempt(status=status)) is blamed


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("86401", RETRY_AFTER_CAP_S),
        ("9" * 5000, RETRY_AFTER_CAP_S),
        ("Tue, 24 Nov 2026 12:02:00 GMT", 120),
        ("Tue, 24 Nov 2026 12:02:00 -0000", 120),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", RETRY_AFTER_CAP_S),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\u0663", None),  # a digit, to str.isdigit
        ("nan", None),
        ("Tue, 99 Nov 2026 99:99:99 GMT", None),
        ("Tue, 24 Nov 99999 12:02:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_more_than_a_day(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(st.text())
def test_no_retry_after_raises(header: str) -> None:
    seconds = retry_after_s(header, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP_S


@given(st.integers(-(10**6), 10**6))
def test_a_date_is_read_as_it_was_meant(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(header, NOW) == min(max(seconds, 0), RETRY_AFTER_CAP_S)


attempts = st.builds(
    Attempt,
    status=st.none() | st.integers(100, 599),
    error=st.none() | st.just("timeout"),
    retry_after_s=st.none() | st.floats(),
)
schedules = st.lists(st.floats(0.01, 1e6), max_size=10)
draws = st.floats(0, 1, exclude_max=True)


@given(attempts, schedules, draws)
def test_every_schedule_comes_to_an_end_and_every_pause_is_finite(
    attempt: Attempt, schedule: list[float], draw: float
) -> None:
    pauses = []
    for made in range(1, len(schedule) + 2):
        match decide(attempt, made, schedule, lambda: draw):
            case Retry(delay_s):
                pauses.append(delay_s)
            case Done() | Dead():
                break
    else:
        raise AssertionError("neither told nor dead after the schedule's last")
    for pause, planned in zip(pauses, schedule, strict=False):
        assert 0 < pause <= max(planned, RETRY_AFTER_CAP_S)


@given(st.integers(100, 599), schedules)
def test_no_reason_quotes_anything_but_numbers(
    status: int, schedule: list[float]
) -> None:
    attempt = Attempt(status=status, answer="personal", error=None)
    decision = decide(attempt, len(schedule) + 1, schedule, whole)
    assert "personal" not in repr(decision)
