"""The four voices in which a router names its mode: STATUS, /ready, the log, a metric."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from prometheus_client.parser import text_string_to_metric_families

from bench.load import Connection
from tests.faults.harness import HOST, Service
from tests.servers import until

TOKEN = "the-admins-own"
NAMED_S = 15.0  # a database that is silent is known for it after its time limits


class Voices:
    """A router's settings that let it be heard, and what it says."""

    def __init__(self, channel: socket.socket, path: Path) -> None:
        self._channel, self._status = channel, ""
        self.settings = {"NOTIFY_SOCKET": str(path), "PSI_ADMIN_TOKEN": TOKEN}

    async def all_say(self, router: Service, mode: str, reason: str = "") -> None:
        """Wait until each names *mode*, and all but the metric the *reason*."""

        async def agree() -> bool:
            return (
                self._says_status(mode, reason)
                and await _says_ready(router, mode, reason)
                and _says_log(router, mode, reason)
                and await metric(router, "psi_mode", mode=mode) == 1.0
            )

        try:
            await until(agree, within_s=NAMED_S)
        except TimeoutError:
            ready = (await router.get("/ready")).body.decode()
            raise AssertionError(
                f"{mode}? {self._status!r} {ready} {router.last_words()}"
            ) from None

    def _says_status(self, mode: str, reason: str) -> bool:
        while said := self._heard():
            for line in said.splitlines():
                if line.startswith("STATUS="):
                    self._status = line.removeprefix("STATUS=")
        return self._status.startswith(f"{mode};") and reason in self._status

    def _heard(self) -> str:
        try:
            return self._channel.recv(65536).decode()
        except BlockingIOError:
            return ""


async def _says_ready(router: Service, mode: str, reason: str) -> bool:
    said = (await router.get("/ready")).body
    return orjson.loads(said)["mode"] == mode and reason in said.decode()


def _says_log(router: Service, mode: str, reason: str) -> bool:
    lines = [line for line in router.lines("mode") if line["mode"] == mode]
    return bool(lines) and reason in str(lines[-1])


@contextmanager
def voices(directory: Path) -> Iterator[Voices]:
    """Listen as systemd does."""
    path = directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.bind(str(path))
        yield Voices(channel, path)


async def metric(router: Service, name: str, **labels: str) -> float | None:
    """Return one sample of a scrape; None where there is no such series."""
    for family in text_string_to_metric_families(await scrape(router)):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


async def scrape(router: Service) -> str:
    """GET /metrics as an admin."""
    connection = await Connection.open(HOST, router.port)
    try:
        words = f"Host: x\r\nAuthorization: Bearer {TOKEN}"
        answer = await connection.send(
            f"GET /metrics HTTP/1.1\r\n{words}\r\n\r\n".encode()
        )
        return answer.body.decode()
    finally:
        connection.close()
