"""Asks the controller, whoever that is when its turn comes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.patience import clamped
from fastlog.broker.peers.messages import Answer
from fastlog.broker.peers.ports import ADMIN
from fastlog.errors import (
    KafkaError,
    NetworkError,
    NotControllerError,
    RequestTimedOutError,
    error_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.peers.ports import Peers

# the controller may be dead, or stopped, without our knowing
ATTEMPT_MS = 5_000
RETRY_SECONDS = 0.1
UNKNOWN_FATE = frozenset({NetworkError.code, RequestTimedOutError.code})


class Outcome(msgspec.Struct, frozen=True):
    """What came of a command."""

    answer: Answer
    """The last one."""
    is_uncertain: bool
    """An earlier attempt got no answer: it may have taken effect, or may yet."""

    @property
    def error(self) -> KafkaError | None:
        """What the answer says is wrong."""
        return error_for(self.answer.code, self.answer.message) if self.answer.code else None


class ControllerLink:
    """Commands to the controller, from any thread, each waited for."""

    def __init__(
        self, peers: Peers, controller_id: Callable[[], int], trouble: Callable[[], str] = lambda: ""
    ) -> None:
        """`controller_id` answers who controls as far as is known here, -1 for nobody.

        `trouble` answers why a controller may not be there or not answer, as far as that is known here, or nothing.
        """
        self._peers = peers
        self._controller_id = controller_id
        self._trouble = trouble

    def ask(self, command: object, *, timeout_ms: int) -> Outcome:
        """Has the controller answer, and waits for that as long as the client does, within bounds.

        While there is no controller, or its answer does not come, it asks again: the command must be one that may be
        carried out twice, or whose second try fails because of the first, which the caller then recognises.
        """
        deadline = time.monotonic() + clamped(timeout_ms) / 1000
        is_uncertain = False
        answer = Answer(code=NotControllerError.code, message="no controller of the cluster is known here")
        while (left := deadline - time.monotonic()) > 0:
            controller = self._controller_id()
            if controller >= 0:
                answer = self._ask_once(controller, command, min(ATTEMPT_MS, int(left * 1000) + 1))
                if answer.code in UNKNOWN_FATE:
                    is_uncertain = True
                elif answer.code != NotControllerError.code:
                    return Outcome(answer, is_uncertain)
            time.sleep(min(RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
        if answer.code == NetworkError.code:
            # what Kafka says where an answer did not come in time
            answer = Answer(
                code=RequestTimedOutError.code, message=f"the controller was not reached: {answer.message}"
            )
        if trouble := self._trouble():
            answer = Answer(code=answer.code, message=f"{answer.message}; {trouble}")
        return Outcome(answer, is_uncertain)

    def _ask_once(self, controller: int, command: object, timeout_ms: int) -> Answer:
        answered = threading.Event()
        answers: list[Answer] = []

        def take(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        self._peers.ask(controller, command, take, timeout_ms=timeout_ms, lane=ADMIN)
        # bounded by the peers
        answered.wait()
        return answers[0]
