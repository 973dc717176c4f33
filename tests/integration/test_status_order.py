"""A status is never told before its message: nor while the message's telling fails."""

import pytest

from router.config import Destination, Line, Settings
from router.model import Attempt, Event, Notification
from router.queues.base import Lease
from router.stages.base import Again, Emit
from router.stages.desk import Desk
from router.stages.notify import Notify
from router.store.database import Database
from router.store.ledger import Ledger
from router.store.outbox import OutboxQueue
from tests.events import message, received, status

CRM = Destination(
    name="crm",
    url="http://crm.invalid/",
    events=frozenset({"message.received", "message.status"}),
)
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    lines=(Line(name="wsp4", phone_number_id="100000000000001"),),
    destinations=(CRM,),
)
KINDS = b'{"type":"message.'


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, Desk(SETTINGS))


class Answers:
    """A teller that answers these statuses, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.told: list[str] = []

    async def tell(self, _: Destination, row: Notification) -> Attempt:
        self.told.append(kind_of(row))
        return Attempt(status=self.statuses.pop(0) if self.statuses else 200)


def kind_of(row: Notification) -> str:
    return row.payload.removeprefix(KINDS).split(b'"')[0].decode()


async def lend(queue: OutboxQueue) -> list[Lease[Notification]]:
    queue.wake()
    return list(await queue._exchange(10))


async def write(ledger: Ledger, *events: Event, together: bool) -> None:
    batches = [list(events)] if together else [[event] for event in events]
    for batch in batches:
        await ledger.write(received(*batch))


@pytest.mark.parametrize("together", [True, False])
async def test_a_status_waits_behind_its_message(
    store: Database,
    ledger: Ledger,
    together: bool,  # noqa: FBT001 -- a case
) -> None:
    events = [status("wamid.A", "read"), message(wamid="wamid.A")]
    if not together:
        events.reverse()
    await write(ledger, *events, together=together)
    queue = OutboxQueue(store, CRM)
    leases = await lend(queue)
    assert [kind_of(lease.item) for lease in leases] == ["received", "status"]
    assert len({lease.item.lane for lease in leases}) == 1
    teller = Answers(503)
    outcomes = await Notify(CRM, teller, queue).handle([le.item for le in leases])
    assert teller.told == ["received"]
    assert all(isinstance(outcome, Again) for outcome in outcomes)
    for lease in leases:
        lease.nack()
    await queue.flush()
    await store.execute(  # long after, and only the message's own time has not come
        "update router.outbox set next_attempt_at = now() + interval '1 hour'"
        " where convert_from(payload, 'UTF8') like '%message.received%'"
    )
    assert await lend(queue) == []
    await store.execute("update router.outbox set next_attempt_at = now()")
    leases = await lend(queue)
    outcomes = await Notify(CRM, teller, queue).handle([le.item for le in leases])
    assert teller.told == ["received", "received", "status"]
    assert all(isinstance(outcome, Emit) for outcome in outcomes)


async def test_also_where_statuses_are_coalesced(
    store: Database, ledger: Ledger
) -> None:
    await write(ledger, message(wamid="wamid.A"), together=True)
    words = ("sent", "delivered", "read")
    statuses = [status("wamid.A", word) for word in words]
    await write(ledger, *statuses, together=False)
    patient = Destination(name="crm", url=CRM.url, coalesce_statuses_s=0.001)
    queue = OutboxQueue(store, patient)
    leases = await lend(queue)
    assert [kind_of(lease.item) for lease in leases] == ["received", *["status"] * 3]
    teller = Answers(503)
    await Notify(patient, teller, queue).handle([lease.item for lease in leases])
    assert teller.told == ["received"]
    await Notify(patient, teller, queue).handle([lease.item for lease in leases])
    assert teller.told == ["received", "received", "status"]


async def test_a_status_of_what_went_out_waits_for_nobody_else(
    store: Database, ledger: Ledger
) -> None:
    await write(ledger, message(wamid="wamid.A"), together=True)
    await store.execute(
        "update mensajes set whatsapp_message_id = 'wamid.OUT'"
        " where direccion = 'saliente'"
    )
    await write(ledger, status("wamid.OUT", "read"), together=True)
    rows = await store.fetch(
        "select lane, convert_from(payload, 'UTF8') as payload from router.outbox"
        " where destination = 'crm' order by id"
    )
    assert ["message.status" in row["payload"] for row in rows] == [False, True]
    assert rows[0]["lane"] != rows[1]["lane"]


async def test_who_is_told_a_replys_status_finds_its_row_by_that_id(
    store: Database, ledger: Ledger
) -> None:
    # WhatsApp's webhook may be here before its own answer to the request that sent it.
    await write(ledger, message(), together=True)
    (reply,) = await store.fetch(
        "select key from router.outbox where destination = 'whatsapp'"
    )
    heard = status("wamid.NEW", "sent")
    heard.item["biz_opaque_callback_data"] = reply["key"]
    await ledger.write(received(heard))
    (row,) = await store.fetch(
        "select m.estado_envio, convert_from(o.payload, 'UTF8') like '%wamid.NEW%' as told"
        " from mensajes m, router.outbox o"
        " where m.whatsapp_message_id = 'wamid.NEW' and o.destination = 'crm'"
        " order by o.id desc limit 1"
    )
    assert (row["estado_envio"], row["told"]) == ("sent", True)
