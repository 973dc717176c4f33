"""The bench's model keeps the laws of queues, and a fit finds what the points were made of."""

import dataclasses

import pytest

from bench.fit import Costs, Model, Point, fitted

COSTS = Costs(
    message=60e-6, batch=300e-6, row=50e-6, commit=200e-6, wait=800e-6, load=40e-6
)


def modelled(connections: int, costs: Costs = COSTS) -> Point:
    """Return a point that *costs* explain without a rest."""
    rate, p50_ms, batch = Model(costs, connections).run(3000)
    return Point(
        connections,
        rate,
        p50_ms,
        batch,
        router_s=costs.message + costs.batch / batch,
        postgres_s=costs.row + costs.commit / batch,
        load_s=costs.load,
    )


def test_one_connection_waits_for_nobody() -> None:
    rate, p50_ms, batch = Model(COSTS, 1).run(1000)
    whole = sum(dataclasses.astuple(COSTS))
    assert batch == 1
    assert rate == pytest.approx(1 / whole, rel=0.01)
    assert p50_ms == pytest.approx((whole - COSTS.load) * 1000, rel=0.01)


@pytest.mark.parametrize("connections", [2, 10, 50])
def test_little_s_law_holds(connections: int) -> None:
    model = Model(COSTS, connections)
    rate, _, _ = model.run(5000)
    inside = rate * sum(model.latencies_s) / len(model.latencies_s)
    # The others are with the load, or wait for it.
    assert rate * COSTS.load <= connections - inside + 0.1
    assert inside <= connections


def test_what_waits_shares_a_commit_so_more_connections_are_more_messages() -> None:
    rates, batches = zip(
        *((m[0], m[2]) for m in (Model(COSTS, n).run(3000) for n in (1, 8, 64))),
        strict=True,
    )
    assert list(rates) == sorted(rates)
    assert batches[2] > 4 * batches[1] > 4
    busiest = max(COSTS.message, COSTS.row + COSTS.load)
    assert rates[2] < 1 / busiest


def test_a_fit_finds_the_costs_that_the_points_were_made_of() -> None:
    found = fitted([modelled(n) for n in (1, 4, 16, 64)])
    for name, cost in dataclasses.asdict(COSTS).items():
        assert getattr(found, name) == pytest.approx(cost, rel=0.1), name
    other = modelled(32)
    assert Model(found, 32).run(3000)[0] == pytest.approx(other.rate, rel=0.05)


def test_a_cost_is_never_less_than_nothing() -> None:
    points = [
        modelled(1)._replace(router_s=100e-6),
        modelled(16)._replace(router_s=200e-6),
    ]
    found = fitted(points)
    assert min(dataclasses.astuple(found)) >= 0
    assert found.message == pytest.approx(150e-6)
