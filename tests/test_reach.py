"""How far claims look, in virtual time."""

from router.store.reach import LEAST, LEAST_WANTED, MOST, WIDE_APART, Reach

WANTED = 100
NARROW, WIDEST = LEAST * WANTED, MOST * WANTED


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_looks_at_a_few_rows_for_each_that_is_wanted() -> None:
    assert Reach().window(WANTED) == NARROW
    assert Reach().window(1) == LEAST * LEAST_WANTED


def test_what_was_all_there_is_needs_no_further_look() -> None:
    reach = Reach()
    reach.window(WANTED)
    assert not reach.saw(WANTED, looked_at=NARROW - 1, lanes=0, rows=0)
    assert reach.window(WANTED) == NARROW


def test_too_few_rows_are_looked_for_further_at_once_and_up_to_the_most() -> None:
    clock = Clock()
    reach, windows = Reach(clock), []
    while True:
        windows.append(reach.window(WANTED))
        clock.now += 1
        if not reach.saw(WANTED, looked_at=windows[-1], lanes=0, rows=0):
            break
    assert windows == sorted(windows)
    assert (windows[0], windows[-1]) == (NARROW, WIDEST)
    assert len(windows) <= 5
    # What was found there brings it back.
    for _ in range(5):
        reach.window(WANTED)
        reach.saw(WANTED, looked_at=0, lanes=WANTED, rows=WANTED)
    assert reach.window(WANTED) == NARROW


def test_enough_rows_of_few_lanes_mean_a_look_at_all_there_is_now_and_then() -> None:
    clock = Clock()
    reach, wide_s = Reach(clock), 0.0
    for _ in range(1000):
        window = reach.window(WANTED)
        took_s = 0.3 if window == WIDEST else 0.005
        wide_s += took_s if window == WIDEST else 0.0
        clock.now += took_s
        seen = min(window, 90_000)
        assert not reach.saw(WANTED, looked_at=seen, lanes=1, rows=WANTED)
        clock.now += 0.02
    share = wide_s / clock.now
    assert 0.5 / WIDE_APART < share <= 1 / WIDE_APART


def test_after_one_that_came_to_no_end_it_begins_anew_and_not_at_once() -> None:
    clock = Clock()
    reach = Reach(clock)
    narrow = reach.window(WANTED)
    reach.saw(WANTED, looked_at=narrow, lanes=1, rows=WANTED)
    assert reach.window(WANTED) == WIDEST
    clock.now += 3.5
    reach.failed()
    assert reach.window(WANTED) == NARROW
    reach.saw(WANTED, looked_at=NARROW, lanes=1, rows=WANTED)
    assert reach.window(WANTED) == NARROW
