"""How a delivery is written to a queue that lies elsewhere, and read again."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import Delivery, Door
from router.queues.inbox import pack, unpack


@given(
    body=st.binary(),
    door=st.sampled_from(Door),
    received_at=st.datetimes(timezones=st.just(UTC)),
)
def test_a_delivery_is_what_it_was(
    body: bytes, door: Door, received_at: datetime
) -> None:
    delivery = Delivery(body=body, door=door, received_at=received_at)
    assert asdict(unpack(pack(delivery))) == asdict(delivery)


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    there = datetime(2026, 11, 24, 12, tzinfo=timezone(timedelta(hours=-3)))
    found = unpack(pack(Delivery(body=b"", door=Door.META, received_at=there)))
    assert (found.received_at, found.received_at.tzinfo) == (there, UTC)


@pytest.mark.parametrize(
    "packed", [b"", b"\n", b"{}", b"meta\n{}", b"meta today\n", b"x 2026-11-24\n\xff"]
)
def test_bytes_of_others_become_a_delivery_that_keeps_all_of_them(
    packed: bytes,
) -> None:
    assert unpack(packed).body == packed
