"""Kafka's command line tools at work on Apache Kafka and on fastlog: what they say is compared."""

from __future__ import annotations

import re

from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
from tests.support.java_tools import Done, JavaTools

# what is each side's own: ids, times, directories, where an error was met in Java; and eligible leaders, which Kafka 4
# keeps
MASKS = {
    r"SLF4J: .*": "",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "…",
    r"127\.0\.0\.1:\d+": "127.0.0.1:…",
    r"TopicId: \S+": "TopicId: …",
    r"\t?Elr: \S*\s*LastKnownElr: \S*": "",
    r"min\.insync\.replicas=1,?": "",
    r"\[\d{4}-\d\d-\d\d [\d:,]+\]": "[…]",
    r"\n\s+at .*": "",
    r"\n\s+\.\.\. \d+ more": "",
    r" \((?:org|java|kafka)\.[\w.$]+\)": "",
    # where a default comes from, Kafka does not say of times
    r", DEFAULT_CONFIG:log\.retention\.hours=168": "",
}
# texts of errors are each broker's own
TEXTS = {
    r"((?:Exception|Error|Error while [\w ]+)): .*": r"\1",
    r"(partition: \S+\s+error): .*": r"\1",
}


class Both:
    """Runs a tool on Kafka and on fastlog."""

    def __init__(self, tools: JavaTools, kafka: KafkaServer, broker: BrokerProcess) -> None:
        self._tools = tools
        self._servers = (kafka, broker)

    def run(
        self, tool: str, *arguments: str, stdin: str = "", before: tuple[str, ...] = ()
    ) -> tuple[Done, Done]:
        """How it ended on each side; `before` goes before the address. `{data_dir}` is that of the side."""
        first, second = (
            self._tools.run(
                tool,
                *before,
                "--bootstrap-server",
                server.bootstrap,
                *(it.replace("{data_dir}", str(server.data_dir.resolve())) for it in arguments),
                stdin=stdin,
            )
            for server in self._servers
        )
        return first, second

    def same(
        self, tool: str, *arguments: str, stdin: str = "", before: tuple[str, ...] = (), texts: bool = False
    ) -> None:
        """Asserts that both end alike and say the same, with `texts` also why something failed."""
        both = self.run(tool, *arguments, stdin=stdin, before=before)
        told = [
            (done.status, *(self._masked(said, server, texts) for said in (done.out, done.err)))
            for done, server in zip(both, self._servers, strict=True)
        ]
        assert told[0] == told[1], f"{arguments}\nkafka: {both[0]}\nfastlog: {both[1]}"

    @staticmethod
    def _masked(text: str, server: KafkaServer | BrokerProcess, texts: bool) -> list[str]:
        text = text.replace(str(server.data_dir.resolve()), "{data_dir}")
        for pattern, shown in (MASKS if texts else MASKS | TEXTS).items():
            text = re.sub(pattern, shown, text)
        return sorted(line.rstrip() for line in text.splitlines() if line.strip())
