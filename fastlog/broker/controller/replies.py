"""The controller's answers, on their way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.peers.messages import Answer
from fastlog.errors import NotControllerError, RequestTimedOutError
from fastlog.state.controller.controller import NOT_CONTROLLER
from fastlog.state.controller.topics import RESIGNED

if TYPE_CHECKING:
    from fastlog.state.controller.effects import Reply


def not_controller() -> Answer:
    """What a broker answers that does not control."""
    return Answer(code=NotControllerError.code, message=NOT_CONTROLLER)


def may_be_made() -> Answer:
    """What a broker answers that controls no more, of a change that it may have written."""
    return Answer(code=RequestTimedOutError.code, message=RESIGNED)


def reply(effect: Reply) -> None:
    """Takes the way back that a request's token is; nothing where nobody waits."""
    answered = effect.token
    if answered is not None:
        body = None if effect.code else msgspec.structs.replace(effect, token=None)
        answered(Answer(code=effect.code, message=effect.message, body=body))
