"""What the admin token opens, on the real service and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.events import body, text_message
from tests.faultproxy import FaultProxy
from tests.faults.harness import HOST, Service
from tests.servers import until

TOKEN = "the-admins-own"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PHONE = "5491100000001"
GUARDED = ("/metrics", f"/api/conversations/{PHONE}")
# Contract 8; a counter is called without its _total.
PROMISED = {
    "psi_deliveries",
    "psi_events",
    "psi_ack_seconds",
    "psi_stage_seconds",
    "psi_stage_restarts",
    "psi_queue_depth",
    "psi_queue_oldest_seconds",
    "psi_persist_batch_size",
    "psi_outbox_pending",
    "psi_outbox_oldest_seconds",
    "psi_attempts",
    "psi_breaker_state",
    "psi_dead_letters",
    "psi_loop_lag_seconds",
}

Running = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def running(database: str, tmp_path: Path) -> Running:
    @asynccontextmanager
    async def run(**settings: str) -> AsyncIterator[Service]:
        service = Service(tmp_path, {"DATABASE_URL": database, **settings})
        service.start()
        try:
            await service.ready()
            yield service
        finally:
            service.kill()

    return run


async def get(service: Service, path: str, **headers: str) -> tuple[int, Any, str]:
    """Return status, headers and body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{HOST}:{service.port}{path}", headers=headers) as response,
    ):
        return response.status, response.headers, await response.text()


async def raw_status(service: Service, authorization: bytes) -> int:
    reader, writer = await asyncio.open_connection(HOST, service.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
    writer.write(b"Authorization: " + authorization + b"\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def scraped(service: Service) -> dict[str, Metric]:
    status, headers, text = await get(service, "/metrics", **BEARER)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(family: Metric, **labels: str) -> float:
    (found,) = (sample.value for sample in family.samples if sample.labels == labels)
    return found


async def test_without_a_token_set_there_is_nothing_to_see(running: Running) -> None:
    async with running() as service:
        for path in (*GUARDED, "/chat", "/chat/people"):
            assert (await get(service, path))[0] == 404
            assert (await get(service, path, **BEARER))[0] == 404


async def test_a_token_set_opens_to_its_bearer_alone(running: Running) -> None:
    async with running(PSI_ADMIN_TOKEN=TOKEN, WEBHOOK_SHARED_SECRET=TOKEN) as service:
        for path in GUARDED:
            for wrong in (
                {},
                {"Authorization": TOKEN},
                {"Authorization": f"Basic {TOKEN}"},
                {"Authorization": f"Bearer {TOKEN}x"},
                {"Authorization": f"Bearer {TOKEN[:-1]}"},
                {"Authorization": "Bearer ñandú"},
                {"Authorization": "Bearer "},
                {"X-Webhook-Secret": TOKEN},
            ):
                status, headers, text = await get(service, path, **wrong)
                assert status == 401, wrong
                assert headers["WWW-Authenticate"].startswith("Bearer")
                assert orjson.loads(text)["error"]["code"] == "unauthorized"
            assert (await get(service, path, Authorization=f"bearer {TOKEN}"))[0] != 401
        assert (await raw_status(service, b"Bearer \xff\xfe")) == 401
        assert (await get(service, "/health"))[0] == 200
        assert (await get(service, "/ready"))[0] == 200


async def test_metrics_hold_every_promised_name_and_what_was_counted(
    running: Running,
) -> None:
    async with running(PSI_ADMIN_TOKEN=TOKEN) as service:
        await service.post(body(text_message(PHONE, "wamid.counted")))
        await service.post(b"{'a': 1}")
        found = await scraped(service)
        assert found.keys() >= PROMISED
        assert value(found["psi_deliveries"], door="meta", outcome="200") == 2
        assert value(found["psi_events"], kind="message.text") == 1
        queues = {s.labels["queue"] for s in found["psi_queue_depth"].samples}
        assert queues >= {"inbox", "events"}
        assert 0 <= value(found["psi_loop_lag_seconds"]) < 60
        assert not [name for name in found if name.endswith("_created")]
        assert PHONE not in (await get(service, "/metrics", **BEARER))[2]


async def test_queues_are_looked_at_when_prometheus_asks(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path
) -> None:
    dsn, proxy = faulty_database
    service = Service(tmp_path, {"DATABASE_URL": dsn, "PSI_ADMIN_TOKEN": TOKEN})
    service.start()
    try:
        await service.ready()
        before = await scraped(service)
        assert value(before["psi_queue_oldest_seconds"], queue="inbox") == 0
        proxy.black_hole = True
        waiting = asyncio.create_task(
            service.post(body(text_message(PHONE, "wamid.held")))
        )

        async def is_held() -> bool:
            now = await scraped(service)
            return value(now["psi_queue_oldest_seconds"], queue="inbox") > 0

        await until(is_held)
        proxy.black_hole = False
        assert (await waiting)[0] in {200, 503}
    finally:
        service.kill()


async def test_a_person_is_found_with_conversation_and_messages_newest_first(
    running: Running,
) -> None:
    async with running(PSI_ADMIN_TOKEN=TOKEN) as service:
        for number in range(12):
            message = text_message(PHONE, f"wamid.n{number}", text=f"número {number}")
            later = str(int(message["timestamp"]) + number)
            await service.post(body({**message, "timestamp": later}))
        status, headers, text = await get(service, GUARDED[1], **BEARER)
    found = orjson.loads(text)
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert found.keys() == {"contact", "conversation", "messages"}
    assert found["contact"]["telefono"] == found["conversation"]["telefono"] == PHONE
    assert found["conversation"]["contacto_id"] == found["contact"]["id"]
    assert {"area", "estado", "router_estado", "ventana_24h_fin", "metadata"} <= found[
        "conversation"
    ].keys()
    messages = found["messages"]
    times = [datetime.fromisoformat(each["timestamp"]) for each in messages]
    assert len(messages) == 10
    assert times == sorted(times, reverse=True)
    assert all(time.tzinfo for time in times)
    assert "número 11" in [each["mensaje"] for each in messages]
    assert {each["conversacion_id"] for each in messages} == {
        found["conversation"]["id"]
    }


@pytest.mark.parametrize(
    "alias", ["5491100000001", "+54 9 11 0000-0001", "541100000001", "AR.100000000001"]
)
async def test_any_name_of_a_person_will_do(running: Running, alias: str) -> None:
    async with running(PSI_ADMIN_TOKEN=TOKEN) as service:
        message = {
            **text_message(PHONE, "wamid.alias"),
            "from_user_id": "AR.100000000001",
        }
        await service.post(body(message))
        status, _, text = await get(service, f"/api/conversations/{alias}", **BEARER)
    assert (status, orjson.loads(text)["contact"]["telefono"]) == (200, PHONE)


@pytest.mark.parametrize("nobody", ["5491100009999", "AR.1", "%00", "%F0%9F%A6%99"])
async def test_nobody_is_a_404_that_can_be_read(running: Running, nobody: str) -> None:
    async with running(PSI_ADMIN_TOKEN=TOKEN) as service:
        status, headers, text = await get(
            service, f"/api/conversations/{nobody}", **BEARER
        )
    assert (status, orjson.loads(text)["error"]["code"]) == (404, "not_found")
    assert headers["Content-Type"].startswith("application/json")


async def test_while_the_database_is_away_the_answer_is_503_and_metrics_go_on(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path
) -> None:
    dsn, proxy = faulty_database
    service = Service(tmp_path, {"DATABASE_URL": dsn, "PSI_ADMIN_TOKEN": TOKEN})
    service.start()
    try:
        await service.ready()
        await proxy.stop()
        proxy.reset_all()
        status, headers, text = await get(service, GUARDED[1], **BEARER)
        assert (status, orjson.loads(text)["error"]["code"]) == (503, "unavailable")
        assert int(headers["Retry-After"]) > 0
        assert "psi_queue_depth" in await scraped(service)
    finally:
        service.kill()
