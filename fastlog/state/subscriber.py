"""What a broker hears of the cluster, put in order: deltas one after another, and a snapshot where one is missing.

A position is (controller epoch, sequence). Deltas of one controller epoch are numbered from 1; a delta that does not
follow what is known says that some were lost, and so does a beacon ahead of it. What came too early waits for the
snapshot, so that a busy controller need not be asked once more for each. Whatever is older than what is known says
nothing: a former controller may go on for a while.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec


class Notice(Protocol):
    """What a controller told: a delta, a beacon or a snapshot."""

    @property
    def controller_id(self) -> int:
        """Who told it."""
        ...

    @property
    def controller_epoch(self) -> int:
        """Grows with each election of a controller."""
        ...

    @property
    def sequence(self) -> int:
        """How far its deltas go."""
        ...


D = TypeVar("D", bound=Notice)
S = TypeVar("S", bound=Notice)


class SubscriberSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds."""

    silence_ms: int = 1_000
    """A controller that was not heard for so long is asked for everything: what it told may have been lost."""
    answer_ms: int = 1_000
    """A snapshot that has not come by then is asked for again, when there is reason to."""
    refused_ms: int = 200
    """Silence asks who has refused so long after that: while nobody controls, it would ask all the time."""
    early_max: int = 1_000
    """Deltas that wait for a snapshot; later ones are dropped, and are then in the next snapshot."""


class Apply(msgspec.Struct, Generic[D, S], frozen=True):
    """Effect: take in the delta, which follows what was applied before, or the snapshot, which replaces it."""

    notice: D | S
    is_snapshot: bool


class AskSnapshot(msgspec.Struct, frozen=True):
    """Effect: ask that broker for everything; the answer is `snapshot`, or `refused`."""

    controller_id: int


class Subscriber(Generic[D, S]):
    """Follows the newest controller. Times are monotonic, in milliseconds."""

    def __init__(self, settings: SubscriberSettings | None = None) -> None:
        self._settings = settings or SubscriberSettings()
        self._position = (-1, -1)
        #: the newest that was heard of, which the next snapshot is asked of
        self._controller: tuple[int, int] | None = None
        self._heard_ms = 0
        self._asked_until_ms: int | None = None
        self._patient_until_ms = 0
        self._early: dict[tuple[int, int], D] = {}

    @property
    def position(self) -> tuple[int, int]:
        """(controller epoch, sequence) of what was applied; (-1, -1) before anything was."""
        return self._position

    @property
    def controller_id(self) -> int:
        """The newest controller that was heard of, -1 for none."""
        return -1 if self._controller is None else self._controller[1]

    @property
    def controller_epoch(self) -> int:
        """Its epoch, -1 for none; it never goes back."""
        return -1 if self._controller is None else self._controller[0]

    def delta(self, delta: D, now_ms: int) -> list[Apply[D, S] | AskSnapshot]:
        """A delta came."""
        if not self._hears(delta, now_ms):
            return []
        at = _position(delta)
        if at <= self._position:
            return []
        if at != self._next():
            if len(self._early) < self._settings.early_max:
                self._early[at] = delta
            return self._ask(now_ms)
        self._position = at
        return [Apply(delta, is_snapshot=False), *self._drain()]

    def beacon(self, beacon: Notice, now_ms: int) -> list[Apply[D, S] | AskSnapshot]:
        """A beacon came: whoever is behind it asks."""
        if not self._hears(beacon, now_ms) or _position(beacon) <= self._position:
            return []
        return self._ask(now_ms)

    def snapshot(self, snapshot: S, now_ms: int) -> list[Apply[D, S] | AskSnapshot]:
        """The answer to AskSnapshot; also to an earlier one."""
        self._asked_until_ms = None
        at = _position(snapshot)
        if at <= self._position:
            return []
        self._hears(snapshot, now_ms)
        self._position = at
        applied: list[Apply[D, S] | AskSnapshot] = [Apply(snapshot, is_snapshot=True), *self._drain()]
        # what waits still is of a later controller, or something before it was lost too
        return applied + (self._ask(now_ms) if self._early else [])

    def refused(self, now_ms: int) -> None:
        """The broker that was asked is no controller, or cannot be reached; the next reason asks again."""
        self._asked_until_ms = None
        self._patient_until_ms = now_ms + self._settings.refused_ms

    def forget(self) -> None:
        """What was to be applied was not, or not wholly: the next reason asks for everything."""
        self._position = (-1, -1)
        self._early.clear()

    def elected(self, controller_id: int, controller_epoch: int) -> None:
        """The store says who controls: silence asks that one, also where nothing is ever heard of it."""
        newest = self._position[0] if self._controller is None else self._controller[0]
        if controller_epoch > newest:
            self._controller, self._asked_until_ms = (controller_epoch, controller_id), None

    def ask(self, now_ms: int) -> list[Apply[D, S] | AskSnapshot]:
        """Something else says that what is known here is old."""
        return self._ask(now_ms)

    def tick(self, now_ms: int) -> list[Apply[D, S] | AskSnapshot]:
        """Time has passed; wanted a few times a second."""
        if now_ms - self._heard_ms <= self._settings.silence_ms or now_ms < self._patient_until_ms:
            return []
        return self._ask(now_ms)

    def _hears(self, notice: Notice, now_ms: int) -> bool:
        """Notes a sign of life; whether it is of the newest controller."""
        told = (notice.controller_epoch, notice.controller_id)
        newest = self._position[0] if self._controller is None else self._controller[0]
        if told[0] < newest:
            return False
        if told != self._controller:
            # the one that was asked before has nothing to say any more
            self._controller, self._asked_until_ms = told, None
        self._heard_ms = now_ms
        return True

    def _next(self) -> tuple[int, int]:
        return self._position[0], self._position[1] + 1

    def _drain(self) -> list[Apply[D, S] | AskSnapshot]:
        """The deltas that waited and follow now."""
        found: list[Apply[D, S] | AskSnapshot] = []
        while (delta := self._early.pop(self._next(), None)) is not None:
            self._position = self._next()
            found.append(Apply(delta, is_snapshot=False))
        self._early = {at: it for at, it in self._early.items() if at > self._position}
        return found

    def _ask(self, now_ms: int) -> list[Apply[D, S] | AskSnapshot]:
        if self._controller is None or (self._asked_until_ms is not None and now_ms < self._asked_until_ms):
            return []
        self._asked_until_ms = now_ms + self._settings.answer_ms
        return [AskSnapshot(self._controller[1])]


def _position(notice: Notice) -> tuple[int, int]:
    return notice.controller_epoch, notice.sequence
