"""Brokers whose listeners refuse connections: dead processes, before their sessions end.

A refusal means that the host is up and nobody listens; a time-out proves nothing and is never told. When every live
peer is refused, the broker is taken for dead: leadership moves and the ISRs go on without it. Epochs keep that safe if
it was wrong, so the cost is churn, and that is bounded in rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlog.state.controller.brokers import Brokers
    from fastlog.state.controller.events import Suspected


def agreed(votes: dict[int, set[int]], live: set[int], peers_min: int) -> set[int]:
    """The largest set of brokers that everybody outside of it is refused by.

    Those that died together do not vote about each other. Fewer than `peers_min` left to agree is no agreement.
    """
    suspected = {it for it, voters in votes.items() if voters and it in live}
    while suspected:
        peers = live - suspected
        if len(peers) < peers_min:
            # one of them is accused by few: without it there may be enough who agree about the others
            suspected.remove(min(suspected, key=lambda it: (len(votes[it] & live), -it)))
            continue
        sure = {it for it in suspected if votes[it] >= peers}
        if sure == suspected:
            break
        suspected = sure
    return suspected


class Suspicions:
    """Who is refused by whom, and who is taken for dead because of it."""

    def __init__(self, *, interval_ms: int, peers_min: int) -> None:
        self._interval_ms = interval_ms
        self._peers_min = peers_min
        self._votes: dict[int, dict[int, int]] = {}
        self._epochs: dict[int, int] = {}
        self._suspected: set[int] = set()
        #: by broker: which process was taken for dead last, and when
        self._acted: dict[int, tuple[int, int]] = {}

    def tell(self, event: Suspected, brokers: Brokers) -> None:
        """Takes in what one broker met; of and by processes that are registered."""
        if event.by == event.of:
            return
        if not (
            brokers.is_registered(event.by, event.by_epoch)
            and brokers.is_registered(event.of, event.of_epoch)
        ):
            return
        if self._epochs.get(event.of) != event.of_epoch:
            self._epochs[event.of] = event.of_epoch
            self._votes[event.of] = {}
        if event.refused:
            self._votes[event.of][event.by] = event.by_epoch
        else:
            self._votes[event.of].pop(event.by, None)

    def decide(self, brokers: Brokers, now_ms: int) -> set[int]:
        """Who is taken for dead now. Who was stays so while the peers agree; anybody else once in the interval.

        A process that is another one since then is not meant by that: the former one was dead indeed.
        """
        for broker, epoch in list(self._epochs.items()):
            if not brokers.is_registered(broker, epoch):
                del self._epochs[broker], self._votes[broker]
        votes = {
            broker: {by for by, epoch in given.items() if brokers.is_registered(by, epoch)}
            for broker, given in self._votes.items()
        }
        sure = agreed(votes, set(brokers.ids()), self._peers_min)
        fresh = {it for it in sure - self._suspected if self._may_act(it, now_ms)}
        self._acted.update({it: (self._epochs[it], now_ms) for it in fresh})
        self._suspected = (self._suspected & sure) | fresh
        return self._suspected

    def _may_act(self, broker: int, now_ms: int) -> bool:
        epoch, acted_ms = self._acted.get(broker, (-1, 0))
        return epoch != self._epochs[broker] or now_ms - acted_ms >= self._interval_ms
