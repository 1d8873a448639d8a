"""What the controller asks of a broker's replicas: put a deleted topic's away; where do logs without a leader end?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.peers.messages import Answer
from fastlog.errors import KafkaError, KafkaStorageError, StaleBrokerEpochError
from fastlog.events import EventLog
from fastlog.state.controller.effects import AskLogEnds, StopReplicas
from fastlog.state.controller.events import LogEnd, LogEndsTold, ReplicasStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.peers.ports import Commands
    from fastlog.broker.replicas.engine import ReplicaEngine
    from fastlog.broker.replicas.roles import Roles
    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.ports import Clock, PartitionKey

    Back = Callable[[Answer], None]


class _Question(msgspec.Struct):
    asked: AskLogEnds
    back: Back
    until_ms: int


class Asked:
    """Carries out the controller's commands. Of the replicas' worker; the engine's calls block on the disk."""

    def __init__(
        self,
        node_id: int,
        engine: ReplicaEngine,
        roles: Roles,
        clock: Clock,
        settings: ReplicaSettings,
        dropped: Callable[[Sequence[PartitionKey]], None],
    ) -> None:
        """`dropped` is told which replicas are about to be put away: nobody may touch their logs when it returns."""
        self._dropped = dropped
        self._node_id = node_id
        self._engine = engine
        self._roles = roles
        self._clock = clock
        self._wait_ms = settings.log_ends_wait_ms
        self._log = EventLog("replicas")
        self._broker_epoch: int | None = None
        self._questions: list[_Question] = []

    def listen(self, commands: Commands, put: Callable[..., None]) -> None:
        """Has the commands handed over to the worker."""
        commands.on(StopReplicas, lambda command, back: put(self.stop_replicas, command, back))
        commands.on(AskLogEnds, lambda command, back: put(self.ask_log_ends, command, back))

    def registered(self, broker_epoch: int | None) -> None:
        """Under which broker epoch this broker is registered, None for none."""
        self._broker_epoch = broker_epoch

    def stop_replicas(self, command: StopReplicas, back: Back) -> None:
        """Puts the replicas of a deleted topic away; answered when that is durable, or with why not.

        Whatever registration it was for: the topic's id says what is meant, and never comes again.
        """
        self._dropped(self._roles.stop(command.topic_id))
        topic_id = command.topic_id.bytes
        try:
            if command.leader_epochs:
                epochs = sorted(command.leader_epochs.items())
                count = self._engine.delete_partitions(command.name, topic_id, epochs, is_deleted=True)
            else:
                (put_away,) = self._engine.delete_topics([(command.name, topic_id)])
                if isinstance(put_away, KafkaError):
                    raise put_away
                count = put_away
        except (KafkaError, OSError) as error:
            code = error.code if isinstance(error, KafkaError) else KafkaStorageError.code
            self._log.error(
                "replicas of a deleted topic were not put away", topic=command.name, reason=str(error)
            )
            back(Answer(code=code, message=str(error)))
            return
        self._log.info(
            "replicas of a deleted topic put away",
            topic=command.name,
            topic_id=str(command.topic_id),
            directories=count,
        )
        stopped = ReplicasStopped(
            broker_id=self._node_id, broker_epoch=command.broker_epoch, topic_id=command.topic_id
        )
        back(Answer(body=stopped))

    def ask_log_ends(self, command: AskLogEnds, back: Back) -> None:
        """Tells where logs end: of those that are known to have no leader, so that nothing is appended any more.

        The states that say so may be on their way; they are waited for, and what is not there then is left out.
        """
        if command.broker_epoch != self._broker_epoch:
            message = f"this broker is registered with epoch {self._broker_epoch}, not {command.broker_epoch}"
            back(Answer(code=StaleBrokerEpochError.code, message=message))
            return
        self._questions.append(_Question(command, back, self._clock.monotonic_ms() + self._wait_ms))
        self.answer_log_ends()

    def answer_log_ends(self) -> None:
        """Answers the questions that can be answered, or have waited long enough."""
        if not self._questions:
            return
        now_ms = self._clock.monotonic_ms()
        questions, self._questions = self._questions, []
        for question in questions:
            keys = [key for key in question.asked.keys if self._has_no_leader(key)]
            if len(keys) < len(question.asked.keys) and now_ms < question.until_ms:
                self._questions.append(question)
            else:
                question.back(Answer(body=self._log_ends(question.asked, keys)))

    def _has_no_leader(self, key: PartitionKey) -> bool:
        held = self._roles.get(key)
        if held is None or held.role is None or held.state.leader >= 0:
            return False
        return held.role.duty == "waits" and held.role.leader_epoch >= held.state.leader_epoch

    def _log_ends(self, asked: AskLogEnds, keys: list[PartitionKey]) -> LogEndsTold:
        topics = [self._roles.topic(key) for key in keys]
        places = self._engine.fetch_positions(
            [(topic, key.partition) for topic, key in zip(topics, keys, strict=True)]
        )
        return LogEndsTold(
            broker_id=self._node_id,
            broker_epoch=asked.broker_epoch,
            ends=tuple(
                LogEnd(key=key, last_epoch=place[1], log_end_offset=place[0], log_start_offset=place[3])
                for key, place in zip(keys, places, strict=True)
                # a log that could not be opened says nothing, least of all that it is empty
                if place is not None
            ),
        )
