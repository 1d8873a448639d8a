"""The same request to Apache Kafka and to fastlog, and where their answers differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fastlog.errors import ErrorCode
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.differences import DELIBERATE
from tests.support.wire import API_VERSIONS, RawConnection, request

CORRELATION_ID = 7
TOPIC_SECONDS = 20.0
#: a machine under load takes its time
SILENCE_SECONDS = 30.0
#: how long who is expected to be silent has to be
EXPECTED_SILENCE_SECONDS = 5.0
CREATE_SECONDS = 120.0
# Fetch and Produce name topics by their ids from this version on
IDS_FROM = 13
CLOSED, SILENT = "closed", "silent"
# what depends on the machine, the moment or a random number: compared is only whether there is something
MASKED = [
    "host",
    "port",
    "cluster_id",
    "session_id",
    "topic_id",
    "producer_id",
    "log_append_time_ms",
    "member_id",
    "leader",
    "client_host",
    "log_dir",
    "total_bytes",
    "usable_bytes",
]
# sizes of files and texts for people; the latter are no part of the protocol
LEFT_OUT = ["throttle_time_ms", "error_message", "batch_index_error_message", "documentation", "zmq_endpoint"]
# lists whose order means nothing are put into the order of the first of these fields that an element has
NAMES = [
    "name",
    "topic",
    "topic_name",
    "resource_name",
    "partition_index",
    "index",
    "partition",
    "broker_id",
    "node_id",
    "api_key",
    "log_dir",
    "group_id",
    "group_instance_id",
]

Make = Callable[["Side"], Any]


@dataclass
class Side:
    """One of the two brokers, and a connection to it."""

    name: str
    port: int
    notes: dict[str, Any] = field(default_factory=dict)
    """What earlier answers said that later requests need: session ids and the like."""
    silence_seconds: float = SILENCE_SECONDS
    """After which no answer is taken to come."""
    _connection: RawConnection | None = None

    def connection(self) -> RawConnection:
        """The connection; a new one after the last was closed."""
        if self._connection is None:
            self._connection = RawConnection(self.port)
        self._connection.socket.settimeout(self.silence_seconds)
        return self._connection

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None

    def ask_frame(self, frame: bytes) -> bytes | str:
        """The answer's bytes, or CLOSED or SILENT."""
        try:
            answer = self.connection().ask(frame)
        except TimeoutError:
            self.close()
            return SILENT
        if answer is None:
            self.close()
            return CLOSED
        return answer

    def ask(self, message: Any, version: int) -> Any:
        """The answer, or CLOSED or SILENT."""
        frame = encode_request_frame(message, version, CORRELATION_ID, "differential")
        answer = self.ask_frame(frame)
        if isinstance(answer, str):
            return answer
        correlation_id, response = decode_response_frame(message.API_KEY, version, answer)
        assert correlation_id == CORRELATION_ID
        return response

    def sees_an_answer(self, frame: bytes) -> str:
        """What comes after `frame`: "answer", SILENT (only the request behind it is answered), or CLOSED."""
        self.connection().send_frame(frame)
        self.connection().send_frame(request(API_VERSIONS, 0, b"", correlation_id=1000))
        first = self.connection().receive_frame()
        if first is not None and first[:4] == (1000).to_bytes(4, "big"):
            return SILENT
        if first is None or self.connection().receive_frame() is None:
            self.close()
            return CLOSED
        return "answer"


class Pair:
    """Both brokers."""

    def __init__(self, kafka_port: int, fastlog_port: int) -> None:
        self.kafka = Side("kafka", kafka_port)
        self.fastlog = Side("fastlog", fastlog_port)
        self.sides = (self.kafka, self.fastlog)
        self.compared = 0

    def same(self, message: Any, version: int, *, but: str = "") -> list[Any]:
        """Asserts that both answer `message` alike, or differ as the table says under `but`; both answers.

        `message` is a request, or makes one for a side. Fetch and Produce name topics by ids from version 13 on, which
        each side has its own of.
        """
        if (
            version >= IDS_FROM
            and not callable(message)
            and message.API_KEY in (ApiKey.PRODUCE, ApiKey.FETCH)
        ):
            message = self.by_id(message)
        expected = DELIBERATE[but].fields[0][1:] if but in DELIBERATE else ()
        for side, answer in zip(self.sides, expected, strict=False):
            if answer == SILENT:
                side.silence_seconds = EXPECTED_SILENCE_SECONDS
        answers = self.both(message, version)
        for side in self.sides:
            side.silence_seconds = SILENCE_SECONDS
        self.check(message, version, answers, but=but)
        return answers

    def soon_same(self, message: Any, version: int) -> None:
        """Asserts that both come to answer alike what is asked after a change, which Kafka hears of later."""
        deadline = time.monotonic() + TOPIC_SECONDS
        while True:
            try:
                self.same(message, version)
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def check(self, what: Any, version: int, answers: list[Any], *, but: str = "") -> None:
        """Asserts that two answers to `what` are alike, or differ as the table says under `but`."""
        kafka, fastlog = (plain(answer) for answer in answers)
        if isinstance(kafka, str) and not isinstance(fastlog, str):
            fastlog = f"errors {sorted(set(errors(fastlog)))}"
        found = differences(kafka, fastlog)
        expected = list(DELIBERATE[but].fields) if but in DELIBERATE else []
        assert [(path.split(".")[-1], *values) for path, *values in found] == expected, (
            f"{what!r:.300} version {version}\nkafka:   {kafka}\nfastlog: {fastlog}\n"
            + "\n".join(f"{path}: kafka {left!r}, fastlog {right!r}" for path, left, right in found)
        )
        self.compared += 1

    def same_frame(self, frame: bytes, *, but: str = "") -> None:
        """Asserts that both treat these bytes alike: an answer, no answer, or the end of the connection."""
        seen = tuple(side.sees_an_answer(frame) for side in self.sides)
        expected = DELIBERATE[but].fields[0][1:] if but else (seen[0], seen[0])
        assert seen == expected, f"kafka {seen[0]}, fastlog {seen[1]} after {frame[:60]!r}"
        self.compared += 1

    def both(self, message: Any, version: int) -> list[Any]:
        """Sends `message` to both without comparing; the answers."""
        return [side.ask(message(side) if callable(message) else message, version) for side in self.sides]

    def topic(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        """Creates a topic on both and waits until it is served; its name."""
        settings = [CreatableTopicConfig(key, value) for key, value in (configs or {}).items()]
        wanted = CreateTopicsRequest(topics=[CreatableTopic(name, partitions, 1, [], settings)])
        for side in self.sides:
            self._create(side, wanted)
        self.wait_for(name, partitions)
        return name

    @staticmethod
    def _create(side: Side, wanted: CreateTopicsRequest) -> None:
        """Asks again where no answer came, as Kafka under load does not give one in time: then it may be there."""
        deadline = time.monotonic() + CREATE_SECONDS
        fine = {0}
        while True:
            answer = side.ask(wanted, 7)
            if not isinstance(answer, str) and answer.topics[0].error_code in fine:
                return
            is_slow = isinstance(answer, str) or answer.topics[0].error_code == ErrorCode.REQUEST_TIMED_OUT
            if not is_slow or time.monotonic() > deadline:
                raise AssertionError(f"{side.name} does not create a topic: {answer}")
            fine = {0, ErrorCode.TOPIC_ALREADY_EXISTS}

    def wait_for(self, name: str, partitions: int = 1) -> None:
        """Kafka tells its broker of a new topic some milliseconds after it told the client."""
        listed = [ListOffsetsPartition(index, -1, -1) for index in range(partitions)]
        described = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        for side in self.sides:
            deadline = time.monotonic() + TOPIC_SECONDS
            while True:
                known = side.ask(described, 12).topics[0]
                offsets = side.ask(
                    ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name, listed)]), 7
                )
                ready = [it.error_code == 0 for it in offsets.topics[0].partitions]
                if known.error_code == 0 and len(known.partitions) == partitions and all(ready):
                    break
                assert time.monotonic() < deadline, f"{side.name} does not serve {name}: {offsets}"
                time.sleep(0.02)

    def by_id(self, message: Any) -> Make:
        """Makes a Fetch or Produce request whose topics have the ids that a side knows them by."""

        def make(side: Side) -> Any:
            changed = {
                key: [self._with_id(side, topic) for topic in getattr(message, key)]
                for key in ("topics", "topic_data", "forgotten_topics_data")
                if hasattr(message, key)
            }
            return msgspec.structs.replace(message, **changed)

        return make

    def _with_id(self, side: Side, topic: Any) -> Any:
        name = topic.name if hasattr(topic, "name") else topic.topic
        # a topic without a name keeps the id that it has
        return msgspec.structs.replace(topic, topic_id=self.topic_id(side, name)) if name else topic

    def topic_id(self, side: Side, name: str) -> bytes:
        """The topic's id on one side."""
        described = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        found: bytes = side.ask(described, 12).topics[0].topic_id
        return found

    def close(self) -> None:
        """Ends both connections."""
        for side in self.sides:
            side.close()


def plain(value: Any, name: str = "") -> Any:
    """An answer as dictionaries, lists and values, masked and in order, so that two can be compared."""
    if isinstance(value, msgspec.Struct):
        fields = value.__struct_fields__
        return {each: plain(getattr(value, each), each) for each in fields if each not in LEFT_OUT}
    if isinstance(value, list):
        return sorted((plain(each) for each in value), key=_place)
    if name in MASKED:
        is_set = value not in (None, "", bytes(16)) and not (isinstance(value, int) and value < 0)
        return "set" if is_set and not (name == "session_id" and value == 0) else value
    return value


def errors(value: Any) -> list[int]:
    """All error codes of a plain answer."""
    if isinstance(value, list):
        return [code for each in value for code in errors(each)]
    if isinstance(value, dict):
        inner = [code for each in value.values() for code in errors(each)]
        return inner + [value[name] for name in ("error_code",) if name in value]
    return []


def _place(element: Any) -> Any:
    if isinstance(element, dict):
        return next((repr((name, element[name])) for name in NAMES if name in element), "")
    return ""


def differences(kafka: Any, fastlog: Any, path: str = "answer") -> list[tuple[str, Any, Any]]:
    """(path, Kafka's value, fastlog's value) wherever two plain answers differ."""
    if isinstance(kafka, dict) and isinstance(fastlog, dict):
        return [found for key in kafka for found in differences(kafka[key], fastlog[key], f"{path}.{key}")]
    if isinstance(kafka, list) and isinstance(fastlog, list):
        if len(kafka) != len(fastlog):
            return [(path, f"{len(kafka)} listed", f"{len(fastlog)} listed")]
        return [
            found
            for place, pair in enumerate(zip(kafka, fastlog, strict=True))
            for found in differences(*pair, f"{path}[{place}]")
        ]
    return [] if kafka == fastlog else [(path, kafka, fastlog)]
