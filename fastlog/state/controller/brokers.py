"""The brokers as the controller knows them: registered, accepted, shutting down, taken for dead by their peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastlog.ports import Registration


class Brokers:
    """Who is registered, and what is known of each; the View of the decisions.

    A broker that registers is accepted once no partition counts on its former process any more: until then it can
    neither be elected nor join an ISR. One that started uncleanly first loses its place among the eligible.
    """

    def __init__(self) -> None:
        self._registered: dict[int, Registration] = {}
        self._accepted: set[int] = set()
        self._shutting_down: set[int] = set()
        self._suspected: set[int] = set()

    # --- what decisions ask ---

    def is_registered(self, broker: int, epoch: int) -> bool:
        """See View."""
        registration = self._registered.get(broker)
        return registration is not None and registration.broker_epoch == epoch

    def is_leaving(self, broker: int) -> bool:
        """See View."""
        return broker in self._shutting_down or broker in self._suspected

    def may_lead(self, broker: int) -> bool:
        """See View."""
        return broker in self._accepted and not self.is_leaving(broker)

    def may_join(self, broker: int, epoch: int) -> bool:
        """Whether a leader may take a replica with this broker epoch into the ISR (KIP-841, KIP-903)."""
        return self.is_registered(broker, epoch) and self.may_lead(broker)

    def has_lost(self, broker: int, epoch: int | None) -> bool:
        """See View."""
        registration = self._registered.get(broker)
        if registration is None or registration.clean_start:
            return False
        return broker not in self._accepted if epoch is None else registration.broker_epoch != epoch

    def epoch_of(self, broker: int) -> int:
        """See View."""
        return self._registered[broker].broker_epoch

    # --- who is there ---

    def __contains__(self, broker: int) -> bool:
        """Whether a broker is registered."""
        return broker in self._registered

    def is_accepted(self, broker: int) -> bool:
        """Whether nothing counts on a former process of the broker."""
        return broker in self._accepted

    def ids(self) -> list[int]:
        """The registered brokers."""
        return sorted(self._registered)

    def usable(self) -> list[Registration]:
        """Those that may be given something to lead."""
        return [it for it in self.registrations() if self.may_lead(it.broker_id)]

    def registrations(self) -> tuple[Registration, ...]:
        """All of them, sorted by id."""
        return tuple(self._registered[it] for it in sorted(self._registered))

    # --- what changes ---

    def register(self, registrations: Iterable[Registration]) -> set[int]:
        """Takes in who is registered now, and answers who went, came, or did both in between."""
        fresh = {it.broker_id: it for it in registrations}
        changed = {
            it
            for it in fresh.keys() | self._registered.keys()
            if it not in fresh or not self.is_registered(it, fresh[it].broker_epoch)
        }
        self._registered = fresh
        for known in (self._accepted, self._shutting_down, self._suspected):
            known.difference_update(changed)
        return changed

    def accept(self, counts_on: Callable[[Registration], bool]) -> list[int]:
        """Accepts whom nothing speaks against any more, and answers them."""
        waiting = [it for it in self.registrations() if it.broker_id not in self._accepted]
        accepted = [it.broker_id for it in waiting if not counts_on(it)]
        self._accepted.update(accepted)
        return accepted

    def accept_known(self, broker: int) -> None:
        """Accepts a broker of which a former controller's writes show that it was."""
        self._accepted.add(broker)

    def shut_down(self, broker: int) -> None:
        """Marks a broker as shutting down, until it registers again."""
        self._shutting_down.add(broker)

    def suspect(self, suspected: set[int]) -> set[int]:
        """Replaces who is taken for dead, and answers for whom that has changed."""
        changed = self._suspected ^ suspected
        self._suspected = set(suspected)
        return changed
