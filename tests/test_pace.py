"""How telling shares the loop with senders, in virtual time."""

import pytest

from router.store.pace import EASY, FULL, LEAST_PER_S, LEAST_S, YIELD_ROWS, Pace

WANTED = 500  # rows that a claim would take


class Router:
    """A loop of which senders take a part, and each row that is lent some time."""

    def __init__(self, senders: float, *, row_s: float = 65e-6) -> None:
        self.now = self.worked = 0.0
        self.senders, self.row_s = senders, row_s
        self.waiting = True
        self.pace = Pace(lambda: self.waiting, lambda: self.now, lambda: self.worked)

    def told_in(self, seconds: float) -> int:
        """Return how many rows are lent in so long, if there are always more."""
        told, end = 0, self.now + seconds
        while self.now < end:
            self.passes(self.pace.pause_s())
            rows = self.pace.claims(WANTED)
            told += rows
            self.worked += rows * self.row_s
            self.passes(rows * self.row_s)
        return told

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds * self.senders


def test_while_nobody_waits_all_is_lent_at_once() -> None:
    router = Router(0.9)
    router.waiting = False
    assert router.pace.pause_s() == 0
    assert router.pace.claims(WANTED) == WANTED
    assert router.pace.pause_s() == pytest.approx(LEAST_S)


def test_beside_senders_who_fill_the_loop_a_tenth_of_it_is_left_to_telling() -> None:
    router = Router(0.9)
    router.told_in(1.0)  # until it has given way
    assert router.told_in(10.0) == pytest.approx(10 * LEAST_PER_S, rel=0.1)
    assert router.pace.claims(WANTED) == YIELD_ROWS


@pytest.mark.parametrize("senders", [0.1, 0.25, 0.4])
def test_beside_senders_who_leave_room_telling_keeps_up(senders: float) -> None:
    router = Router(senders)
    assert router.told_in(10.0) * router.row_s / 10 > (FULL - senders) * 0.6


def test_what_gave_way_comes_back_within_a_second() -> None:
    router = Router(0.9)
    router.told_in(5.0)
    router.waiting = False
    assert router.told_in(1.0) > 2 * LEAST_PER_S
    assert router.pace.claims(WANTED) == WANTED


def test_rows_are_lent_a_few_at_a_time_where_the_loop_has_time_for_that() -> None:
    router = Router(EASY - 0.05)
    assert router.pace.is_easy
    router.passes(1.0)
    router.pace.claims(WANTED)
    assert router.pace.is_easy
    router.senders = EASY + 0.05
    router.passes(1.0)
    router.pace.claims(WANTED)
    assert not router.pace.is_easy


def test_what_gives_way_lends_nothing_a_few_at_a_time() -> None:
    router = Router(0.9)
    router.told_in(5.0)
    router.senders = 0.0
    router.passes(LEAST_S)
    router.pace.claims(WANTED)
    assert not router.pace.is_easy
    router.told_in(2.0)
    assert router.pace.is_easy
