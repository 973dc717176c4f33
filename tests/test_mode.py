"""What the router says of how it is."""

import logging
import time

import pytest

from router.health import CLOCK_OFF_S, MODES, Health
from router.ops.mode import CLOCK_JUMPS, JUMP_S, MODE, ModeWatch, show


def well() -> Health:
    health = Health(workers={"persist": "up"}, destinations={"crm": "closed"})
    health.store_answers()
    return health


def test_the_gravest_trouble_names_the_mode_and_each_is_told() -> None:
    health = well()
    assert (health.mode, health.missing(), health.beside()) == ("ready", [], [])
    health.clock_skew_s = -2 * CLOCK_OFF_S
    assert (health.mode, health.missing()) == ("clock off", [])
    health.destinations["crm"] = "half_open"
    assert (health.mode, health.missing()) == ("destination away", [])
    assert health.beside() == [
        "destination crm: away",
        "clock: -60 s to the database's",
    ]
    health.workers["persist"] = "restarting"
    assert health.mode == "degraded"
    health.write_problem = "ReadOnlySQLTransactionError 25006"
    assert health.mode == "database takes no writes"
    health.write_problem = "DiskFullError 53100"
    assert health.mode == "disk full"
    health.store_fails("PostgreSQL does not answer: TimeoutError", 1.0)
    assert health.mode == "database away"
    assert len(health.missing()) == 3
    health.queue_says("redis: no answer in 3 s")
    assert health.mode == "queue away"
    assert "queue: redis: no answer in 3 s" in health.missing()
    health.stopping_since = 2.0
    assert health.mode == "stopping"


def test_every_mode_is_a_series_and_one_of_them_is_1() -> None:
    health = well()
    show(health)
    (family,) = MODE.collect()
    series = {sample.labels["mode"]: sample.value for sample in family.samples}
    assert series == {name: float(name == "ready") for name in MODES}


def test_a_change_is_said_once_and_a_stop_by_whoever_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = well()
    watch = ModeWatch(health)
    with caplog.at_level(logging.INFO, "router"):
        for destination in ("closed", "open", "half_open", "closed"):
            health.destinations["crm"] = destination
            watch.look()
        health.stopping_since = 1.0
        watch.look()
    said = [(r.levelname, r.fields["mode"]) for r in caplog.records]  # type: ignore[attr-defined]
    assert said == [
        ("INFO", "ready"),
        ("WARNING", "destination away"),
        ("INFO", "ready"),
    ]


@pytest.mark.parametrize(("by_s", "jumps"), [(3600.0, 1), (-3600.0, 1), (0.5, 0)])
def test_a_jump_of_the_clock_is_said_and_counted(
    monkeypatch: pytest.MonkeyPatch, by_s: float, jumps: int
) -> None:
    assert JUMP_S > 0.5
    watch, real = ModeWatch(well()), time.time
    before = CLOCK_JUMPS._value.get()
    monkeypatch.setattr(time, "time", lambda: real() + by_s)
    watch.look()
    watch.look()
    assert CLOCK_JUMPS._value.get() - before == jumps
