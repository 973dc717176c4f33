"""The door for admins, the gauges of a scrape, and the look at the event loop."""

import asyncio
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from router.health import Health
from router.ops.admin import admins_only
from router.ops.lag import WINDOW_S, LoopLag
from router.ops.metrics import metrics
from router.queues.memory import MemoryQueue
from tests.servers import until

TOKEN = "ñ-the-token"


async def inside(request: web.Request) -> web.Response:
    return web.Response(text="inside")


async def status(token: str | None, given: str | None) -> int:
    headers = {} if given is None else {"Authorization": given}
    request = make_mocked_request("GET", "/metrics", headers=headers)
    try:
        return (await admins_only(token, inside)(request)).status
    except web.HTTPNotFound:
        return 404


@pytest.mark.parametrize("given", [None, "", "Bearer ", f"Bearer {TOKEN}"])
async def test_no_token_set_is_a_path_that_does_not_exist(given: str | None) -> None:
    assert await status(None, given) == 404


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        "Bearer other",
        f"Basic {TOKEN}",
    ],
)
async def test_whoever_does_not_bear_the_token_stays_outside(given: str | None) -> None:
    assert await status(TOKEN, given) == 401


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  "])
async def test_its_bearer_comes_in(scheme: str) -> None:
    assert await status(TOKEN, scheme + TOKEN) == 200


def page(*queues: MemoryQueue[str], lag_s: float = 0.0) -> str:
    body = metrics(queues, lag_s, Health()).body
    assert isinstance(body, bytes)
    return body.decode()


async def test_a_scrape_shows_the_queues_of_this_moment_and_no_others() -> None:
    first = MemoryQueue[str]("ops-first", bound=10, bound_bytes=100)
    second = MemoryQueue[str]("ops-second", bound=10, bound_bytes=100)
    await first.put("item")
    assert 'psi_queue_depth{queue="ops-first"} 1.0' in page(first, second)
    (lease,) = await first.lease(1)
    on_loan = page(first, second)
    assert 'psi_queue_depth{queue="ops-first"} 0.0' in on_loan
    assert 'psi_queue_oldest_seconds{queue="ops-first"} 0.0\n' not in on_loan
    lease.ack()
    assert 'psi_queue_oldest_seconds{queue="ops-first"} 0.0\n' in page(first)
    assert "ops-second" not in page(first)
    assert "psi_loop_lag_seconds 0.25" in page(lag_s=0.25)
    assert f"psi_tasks {len(asyncio.all_tasks())}.0" in page()


def test_the_worst_lag_is_seen_by_every_scrape_and_forgotten_in_time() -> None:
    lag, now = LoopLag(), 1000.0
    for late, after in ((0.01, 0.0), (0.5, 1.0), (0.02, 2.0)):
        lag.note(late, now + after)
    assert lag.worst_s == 0.5
    lag.note(0.01, now + WINDOW_S + 1)
    assert lag.worst_s == 0.5
    lag.note(0.01, now + 2 * WINDOW_S + 2)
    assert lag.worst_s == pytest.approx(0.01)


async def test_a_blocked_loop_is_noticed() -> None:
    lag = LoopLag()
    work = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 -- the fault itself
    await until(lambda: lag.worst_s > 0.3)
    work.cancel()
