"""The commands that the cluster worker takes: what the controller is asked, and any broker about a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlog.broker.peers import messages
from fastlog.state.controller import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.controller.driver import ControllerDriver
    from fastlog.broker.controller.ports import Schedule
    from fastlog.broker.controller.suspicion import Suspicion
    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Commands

#: the token of each is free
REQUESTS = (
    ev.IsrAsked,
    ev.ShutdownAsked,
    ev.Suspected,
    ev.CreateAsked,
    ev.GrowAsked,
    ev.DeleteAsked,
    ev.ReassignAsked,
    ev.DecommissionAsked,
    ev.ElectAsked,
)


def take_commands(
    commands: Commands, schedule: Schedule, driver: ControllerDriver, suspicion: Suspicion
) -> None:
    """Has each command done on the schedule's thread."""

    def hand_over(kind: type, handle: Callable[[Any, Callable[[Answer], None]], None]) -> None:
        commands.on(kind, lambda command, answered: schedule.put(lambda: handle(command, answered)))

    for kind in REQUESTS:
        hand_over(kind, driver.ask)
    hand_over(messages.AskSnapshot, lambda _, answered: driver.ask_snapshot(answered))
    hand_over(messages.SetConfigs, driver.set_configs)
    hand_over(messages.AskRefused, suspicion.asked)
