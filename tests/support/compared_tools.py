"""Kafka's command line tools at work on Apache Kafka and on fastlog: what they say is compared."""

from __future__ import annotations

import re

from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
from tests.support.java_tools import Done, JavaTools

# what is each side's own: ids, times, where an error was met in Java; and eligible leaders, which Kafka 4 keeps
MASKS = {
    r"127\.0\.0\.1:\d+": "127.0.0.1:…",
    r"TopicId: \S+": "TopicId: …",
    r"\t?Elr: \S*\s*LastKnownElr: \S*": "",
    r"min\.insync\.replicas=1,?": "",
    r"\[\d{4}-\d\d-\d\d [\d:,]+\]": "[…]",
    r"\n\s+at .*": "",
    r" \((?:org|java|kafka)\.[\w.$]+\)": "",
    # texts of errors are each broker's own
    r"((?:Exception|Error|Error while [\w ]+)): .*": r"\1",
    # where a default comes from, Kafka does not say of times
    r", DEFAULT_CONFIG:log\.retention\.hours=168": "",
    r"(partition: \S+\s+error): .*": r"\1",
}


class Both:
    """Runs a tool on Kafka and on fastlog."""

    def __init__(self, tools: JavaTools, kafka: KafkaServer, broker: BrokerProcess) -> None:
        self._tools = tools
        self._kafka = kafka.bootstrap
        self._fastlog = broker.bootstrap

    def run(self, tool: str, *arguments: str, stdin: str = "") -> tuple[Done, Done]:
        """How it ended on each side."""
        first, second = (
            self._tools.run(tool, "--bootstrap-server", bootstrap, *arguments, stdin=stdin)
            for bootstrap in (self._kafka, self._fastlog)
        )
        return first, second

    def same(self, tool: str, *arguments: str, stdin: str = "") -> None:
        """Asserts that both end alike and say the same."""
        kafka, fastlog = self.run(tool, *arguments, stdin=stdin)
        told = [(each.status, masked(each.out)) for each in (kafka, fastlog)]
        assert told[0] == told[1], f"{arguments}\nkafka: {kafka}\nfastlog: {fastlog}"


def masked(text: str) -> list[str]:
    for pattern, shown in MASKS.items():
        text = re.sub(pattern, shown, text)
    return sorted(line.rstrip() for line in text.splitlines() if line.strip())
