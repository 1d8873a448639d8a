"""A broker's controlled shutdown, as the broker asks for it."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from fastlog.broker.peers.ports import ADMIN
from fastlog.events import EventLog
from fastlog.state.controller.effects import Reply
from fastlog.state.controller.events import ShutdownAsked

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Peers
    from fastlog.ports import Registration
    from fastlog.state.controller.effects import Item


def leave(
    peers: Peers,
    who: Callable[[], tuple[int, Registration] | None],
    *,
    tries: int,
    timeout_ms: int,
    pause_ms: int,
) -> tuple[Item, ...] | None:
    """Asks the controller to move everything off this broker, until nothing is led here or `tries` are used up.

    `who` answers the controller's id and this broker's registration, None while there is none of the two. Answers what
    is led here still, None where no controller said. Blocks for `tries` time-outs and the pauses between at most.
    """
    log = EventLog("cluster")
    left: tuple[Item, ...] | None = None
    for number in range(tries):
        if number:
            threading.Event().wait(pause_ms / 1000)
        known = who()
        if known is None:
            continue
        answer = _ask(peers, *known, timeout_ms=timeout_ms)
        if answer is not None and answer.code == 0 and isinstance(answer.body, Reply):
            left = answer.body.items
            if not left:
                return left
        elif answer is not None:
            log.info("controlled shutdown not done", code=answer.code, reason=answer.message)
    log.warning(
        "shutdown without the controller" if left is None else "shutdown with partitions that are led"
    )
    return left


def _ask(peers: Peers, controller: int, own: Registration, *, timeout_ms: int) -> Answer | None:
    answers: SimpleQueue[Answer] = SimpleQueue()
    command = ShutdownAsked(token=None, broker_id=own.broker_id, broker_epoch=own.broker_epoch)
    peers.ask(controller, command, answers.put, timeout_ms=timeout_ms, lane=ADMIN)
    try:
        # its answer comes in time in any case, unless the peers are at their end
        return answers.get(timeout=timeout_ms / 1000 + 1)
    except Empty:
        return None
