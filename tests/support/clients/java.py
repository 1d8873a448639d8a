"""Kafka's Java clients, by its console tools: text lines only, one set of headers for all records."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integration.kafka import tool
from tests.support.samples import Sample

NULL = "<null>"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"


def produce(
    bootstrap: str, topic: str, samples: Sequence[Sample], compression: str, *, idempotent: bool = True
) -> None:
    """Sends all; Java's console producer chooses the partition by key, so the topic has only one."""
    lines = []
    for sample in samples:
        headers = ",".join(f"{name}:{_text(value)}" for name, value in sample.headers)
        lines.append(f"{headers}\t{_text(sample.key)}\t{_text(sample.value)}\n")
    properties = {"parse.headers": "true", "parse.key": "true", "null.marker": NULL}
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", compression]
    arguments += ["--command-property", f"enable.idempotence={str(idempotent).lower()}"]
    arguments += [
        word for key, value in properties.items() for word in ("--reader-property", f"{key}={value}")
    ]
    tool(PRODUCER, *arguments, stdin="".join(lines))


def consume(bootstrap: str, topic: str, count: int, *, offset: int = 0) -> list[Sample]:
    """The first `count` records from `offset` on, as the console consumer prints them."""
    shown = ["print.timestamp", "print.headers", "print.key", "print.value"]
    arguments = [
        "--bootstrap-server",
        bootstrap,
        "--topic",
        topic,
        "--partition",
        "0",
        "--offset",
        str(offset),
    ]
    arguments += ["--max-messages", str(count), "--timeout-ms", "20000"]
    arguments += [word for key in shown for word in ("--formatter-property", f"{key}=true")]
    arguments += ["--formatter-property", f"null.literal={NULL}"]
    return [_sample(line) for line in tool(CONSUMER, *arguments).splitlines()]


def _text(value: bytes | None) -> str:
    return NULL if value is None else value.decode()


def _bytes(text: str) -> bytes | None:
    return None if text == NULL else text.encode()


def _sample(line: str) -> Sample:
    timestamp, headers, key, value = line.split("\t")
    pairs = [] if headers == "NO_HEADERS" else [pair.split(":", 1) for pair in headers.split(",")]
    shown = tuple((name, _bytes(text)) for name, text in pairs)
    return Sample(_bytes(key), _bytes(value), shown, int(timestamp.removeprefix("CreateTime:")))
