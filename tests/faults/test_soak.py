"""The soak run, shortened, and that it can fail."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.soak import HOT_MB, RATE, Look, grown, soak

STEADY = Look(80.0, 90, 40, 2.0, 5, 900, 0.1)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_minute_and_a_half_beside_a_flapping_destination(
    database: str, tmp_path: Path
) -> None:
    assert await soak(tmp_path, database, 90, RATE) == []


def test_a_steady_run_has_not_grown() -> None:
    assert grown([STEADY] * 30) == []


@pytest.mark.parametrize("name", ["memory_mb", "files", "tasks"])
def test_a_slope_is_seen(name: str) -> None:
    looks = [replace(STEADY, **{name: 80 + 3 * number}) for number in range(60)]
    (problem,) = grown(looks)
    assert problem.startswith(f"{name} grew")


def test_a_heavy_outbox_a_late_neighbour_and_no_looks_are_seen() -> None:
    assert "hot" in grown([replace(STEADY, hot_mb=HOT_MB + 1)] * 30)[0]
    assert "always waits" in grown([replace(STEADY, oldest_s=5.0)] * 30)[0]
    assert grown([STEADY]) == ["too short to say anything"]
