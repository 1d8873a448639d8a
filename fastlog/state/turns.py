"""Who waits while a change of its group is being written: what comes next is decided on what came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from fastlog.errors import NotCoordinatorError
from fastlog.state.effects import Effects
from fastlog.state.moment import Moment


class Step(msgspec.Struct, frozen=True):
    """Something that someone asks of a group, or that time asks of it."""

    run: Callable[[Moment, Effects], None]
    refuse: Callable[[int, Effects], None] | None = None
    """Answers it with an error code; None where nobody waits for an answer."""


class Turns:
    """The groups that have a change under way, each with the steps that wait for its end."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Step]] = {}

    def take(self, group_id: str, step: Step, now: Moment, out: Effects) -> None:
        """Runs the step, now or when the change of its group is done."""
        waiting = self._waiting.get(group_id)
        if waiting is None:
            step.run(now, out)
        else:
            waiting.append(step)

    def begin(self, group_id: str) -> None:
        """A change of the group is being written."""
        if group_id in self._waiting:
            raise AssertionError(f"group {group_id} has a change under way already")
        self._waiting[group_id] = deque()

    def end(self, group_id: str, code: int, now: Moment, out: Effects) -> None:
        """The change is done, or has failed with `code`: the next in turn goes on."""
        waiting = self._waiting.pop(group_id, None) or deque()
        while waiting:
            step = waiting.popleft()
            if code == NotCoordinatorError.code:
                # the leadership is over, and what they would write meets the same
                _refuse(step, code, out)
                continue
            step.run(now, out)
            if group_id in self._waiting:
                self._waiting[group_id].extend(waiting)
                return

    def refuse_all(self, code: int, out: Effects) -> None:
        """Answers all who wait with the error."""
        for waiting in self._waiting.values():
            while waiting:
                _refuse(waiting.popleft(), code, out)


def _refuse(step: Step, code: int, out: Effects) -> None:
    if step.refuse is not None:
        step.refuse(code, out)
