"""Meta's limits, kept on our side: when a message may go. Arithmetic only; callers wait.

Two limits ("Throughput" and "Pair rate limits" of the Cloud API's overview,
developers.facebook.com/docs/whatsapp/cloud-api/overview):
  a number   80 messages a second, 20 for one that the WhatsApp Business app uses as well
  a pair     one message in 6 s to the same recipient, and bursts of up to 45 that borrow from
             the time to come: who sent 20 at once waits two minutes

Each is a bucket, kept as one number: the time at which it is full again ("theoretical arrival
time", ATM Forum GCRA). What a window of w seconds lets through is then burst + w x rate at
most. What leaves evenly arrives unevenly, so both stay below Meta's: a number's burst is a
twentieth of its limit, and the rate such that what is up to LATE_S on its way meets no full
second.

Meta's sentence about bursts can be read more strictly: after a burst nothing at all until its
time has passed. People who tap through a menu would then wait for seconds at each step, so
that holds for those pairs only that Meta has complained about (131056), or for all with
`repay=True`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NUMBER_PER_S = 80.0
PAIR_INTERVAL_S = 6.0
PAIR_BURST = 40  # Meta: 45
LATE_S = 0.05  # some messages arrive later than others
PAIR_WINDOW_S = 6.0  # in which the messages of one burst leave, read strictly
RESERVE = 0.5  # of a number's burst, which bulk leaves to direct replies
WARY_S = 3600.0  # for so long after a complaint a pair repays
BACKOFF_CAP_S = 256.0  # 4^4: Meta says 4^x s after the x-th refusal in a row, from 0
HOLD_S = 1.0  # of a number, after a complaint
LEAST_PER_S = 1.0
RECOVERY = 0.01  # of the limit, regained with each message that is taken
SWEEP = 1024  # pairs, before the first look for those that are full again


@dataclass(slots=True)
class _Pair:
    full_at: float = -math.inf  # when the bucket is full again
    burst_at: float = -math.inf  # when the current burst began
    held_until: float = -math.inf
    wary_until: float = -math.inf
    refusals: int = 0  # in a row

    def forgettable(self, now: float) -> bool:
        return max(self.full_at, self.held_until, self.wary_until) <= now


@dataclass(slots=True)
class _Number:
    per_s: float
    full_at: float = -math.inf
    held_until: float = -math.inf


class Governor:
    """Says when a message may go, and remembers what went.

    *now* is any clock in seconds that does not go back, the same in all calls. Between
    `ready_in_s` and `sent` the caller must not await, or two would take one place.
    """

    def __init__(
        self,
        *,
        number_per_s: float = NUMBER_PER_S,
        own_per_s: Mapping[str, float] = MappingProxyType({}),
        pair_interval_s: float = PAIR_INTERVAL_S,
        pair_burst: int = PAIR_BURST,
        repay: bool = False,
    ) -> None:
        """Allow *number_per_s* to each number that has nothing of its own in *own_per_s*.

        ValueError for a limit that allows nothing.
        """
        slowest_per_s = min([number_per_s, *own_per_s.values()])
        if slowest_per_s < LEAST_PER_S or pair_interval_s <= 0 or pair_burst < 1:
            raise ValueError("a limit must allow something")
        self._number_per_s, self._own_per_s = number_per_s, dict(own_per_s)
        self._repay = repay
        self._interval_s, self._burst = pair_interval_s, pair_burst
        self._numbers: dict[str, _Number] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._sweep_at = SWEEP

    @property
    def pairs(self) -> int:
        """How many pairs are remembered."""
        return len(self._pairs)

    def ready_in_s(
        self, number: str, recipient: str, now: float, *, bulk: bool = False
    ) -> float:
        """Return after how many seconds the message may go; 0: now.

        Without a recipient (a read mark) there is no pair to look at.
        """
        waits = [self._number_wait_s(number, now, bulk=bulk)]
        if pair := self._pairs.get((number, recipient)):
            waits.append(self._pair_wait_s(pair, now))
        return max(0.0, *waits)

    def sent(self, number: str, recipient: str, now: float) -> None:
        """Note that a message goes out now, whatever will come of it."""
        known = self._number(number)
        known.full_at = max(known.full_at, now) + 1 / _rate(known.per_s)
        if not recipient:
            return
        pair = self._pair(number, recipient, now)
        pair.full_at = max(pair.full_at, now) + self._interval_s
        if now >= pair.burst_at + PAIR_WINDOW_S:
            pair.burst_at = now

    def accepted(self, number: str, recipient: str) -> None:
        """Note that Meta took a message: a slowed number regains some of its pace."""
        known = self._number(number)
        limit_per_s = self._limit_per_s(number)
        known.per_s = min(limit_per_s, known.per_s + RECOVERY * limit_per_s)
        if pair := self._pairs.get((number, recipient)):
            pair.refusals = 0

    def slow_number(self, number: str, now: float, wait_s: float = 0.0) -> None:
        """Halve a number's pace after a complaint, and stop it for a moment.

        Complaints about messages that were on their way together count as one.
        """
        known = self._number(number)
        if now >= known.held_until:
            known.per_s = max(LEAST_PER_S, known.per_s / 2)
        known.held_until = max(known.held_until, now + max(HOLD_S, wait_s))

    def slow_pair(
        self, number: str, recipient: str, now: float, wait_s: float = 0.0
    ) -> None:
        """Stop a pair for a while after a complaint, and let it repay from then on."""
        pair = self._pair(number, recipient, now)
        pause_s = min(BACKOFF_CAP_S, 4.0 ** min(pair.refusals, 9))
        pair.refusals += 1
        pair.held_until = now + max(self._interval_s, pause_s, wait_s)
        pair.full_at = max(pair.full_at, pair.held_until)
        pair.wary_until = now + WARY_S

    def _number_wait_s(self, number: str, now: float, *, bulk: bool) -> float:
        known = self._number(number)
        room = _burst(known.per_s) - 1
        if bulk:
            room -= math.ceil(_burst(known.per_s) * RESERVE)
        return max(
            known.held_until - now,
            known.full_at - max(0, room) / _rate(known.per_s) - now,
        )

    def _pair_wait_s(self, pair: _Pair, now: float) -> float:
        room_s = (self._burst - 1) * self._interval_s
        wait_s = max(pair.held_until - now, pair.full_at - room_s - now)
        in_burst = now < pair.burst_at + PAIR_WINDOW_S
        if (self._repay or now < pair.wary_until) and not in_burst:
            wait_s = max(wait_s, pair.full_at - now)
        return wait_s

    def _number(self, number: str) -> _Number:
        return self._numbers.setdefault(number, _Number(self._limit_per_s(number)))

    def _limit_per_s(self, number: str) -> float:
        return self._own_per_s.get(number, self._number_per_s)

    def _pair(self, number: str, recipient: str, now: float) -> _Pair:
        if len(self._pairs) >= self._sweep_at:
            self._sweep(now)
        return self._pairs.setdefault((number, recipient), _Pair())

    def _sweep(self, now: float) -> None:
        # When twice what is left has gathered: a pair's share of the sweeps is constant.
        self._pairs = {
            key: pair for key, pair in self._pairs.items() if not pair.forgettable(now)
        }
        self._sweep_at = max(SWEEP, 2 * len(self._pairs))


def _burst(per_s: float) -> int:
    # Two, where there is room for them: one to reserve.
    return max(1, math.floor(per_s / 20), min(2, math.floor(per_s / 10)))


def _rate(per_s: float) -> float:
    return max((per_s - _burst(per_s)) / (1 + LATE_S), per_s / 2)
