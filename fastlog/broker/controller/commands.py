"""The commands that the cluster worker takes: what the controller is asked, and any broker about a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlog.broker.peers import messages
from fastlog.state.controller import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.controller.driver import ControllerDriver
    from fastlog.broker.controller.ports import Work
    from fastlog.broker.controller.suspicion import Suspicion
    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Commands

    Answered = Callable[[Answer], None]
    #: the work, and the way back for where it will not be done
    HandOver = Callable[[Work, Answered], None]

#: the token of each is free
REQUESTS = (
    ev.IsrAsked,
    ev.ReplicasOffline,
    ev.ShutdownAsked,
    ev.Suspected,
    ev.CreateAsked,
    ev.GrowAsked,
    ev.DeleteAsked,
    ev.ReassignAsked,
    ev.ElectAsked,
)


def take_commands(
    commands: Commands, hand_over: HandOver, driver: ControllerDriver, suspicion: Suspicion
) -> None:
    """Has each command done by the cluster worker."""

    def take(kind: type, handle: Callable[[Any, Answered], None]) -> None:
        commands.on(kind, lambda command, answered: hand_over(lambda: handle(command, answered), answered))

    for kind in REQUESTS:
        take(kind, driver.ask)
    take(messages.AskSnapshot, lambda _, answered: driver.ask_snapshot(answered))
    take(messages.SetConfigs, driver.set_configs)
    take(messages.AskRefused, suspicion.asked)
