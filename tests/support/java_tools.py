"""Kafka's command line tools in one process of Java, which starts once."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

from tests.integration.kafka import java

SOURCE = Path(__file__).parents[1] / "integration/kafka/Tools.java"
SECONDS = 90.0
MARK = "@answer "

TOOLS = "org.apache.kafka.tools"
SCRIPTS = {
    "kafka-acls.sh": f"{TOOLS}.AclCommand",
    "kafka-broker-api-versions.sh": f"{TOOLS}.BrokerApiVersionsCommand",
    "kafka-client-metrics.sh": f"{TOOLS}.ClientMetricsCommand",
    "kafka-cluster.sh": f"{TOOLS}.ClusterTool",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-console-consumer.sh": f"{TOOLS}.consumer.ConsoleConsumer",
    "kafka-console-producer.sh": f"{TOOLS}.ConsoleProducer",
    "kafka-consumer-groups.sh": f"{TOOLS}.consumer.group.ConsumerGroupCommand",
    "kafka-consumer-perf-test.sh": f"{TOOLS}.ConsumerPerformance",
    "kafka-delegation-tokens.sh": f"{TOOLS}.DelegationTokenCommand",
    "kafka-delete-records.sh": f"{TOOLS}.DeleteRecordsCommand",
    "kafka-dump-log.sh": f"{TOOLS}.DumpLogSegments",
    "kafka-features.sh": f"{TOOLS}.FeatureCommand",
    "kafka-get-offsets.sh": f"{TOOLS}.GetOffsetShell",
    "kafka-groups.sh": f"{TOOLS}.GroupsCommand",
    "kafka-leader-election.sh": f"{TOOLS}.LeaderElectionCommand",
    "kafka-log-dirs.sh": f"{TOOLS}.LogDirsCommand",
    "kafka-metadata-quorum.sh": f"{TOOLS}.MetadataQuorumCommand",
    "kafka-producer-perf-test.sh": f"{TOOLS}.ProducerPerformance",
    "kafka-reassign-partitions.sh": f"{TOOLS}.reassign.ReassignPartitionsCommand",
    "kafka-share-groups.sh": f"{TOOLS}.consumer.group.ShareGroupCommand",
    "kafka-streams-groups.sh": f"{TOOLS}.streams.StreamsGroupCommand",
    "kafka-topics.sh": f"{TOOLS}.TopicCommand",
    "kafka-transactions.sh": f"{TOOLS}.TransactionsCommand",
    "kafka-verifiable-consumer.sh": f"{TOOLS}.VerifiableConsumer",
    "kafka-verifiable-producer.sh": f"{TOOLS}.VerifiableProducer",
}
"""The class that each of Kafka's scripts runs, those of docs/tools.md."""
PAGE = Path(__file__).parents[2] / "docs/tools.md"


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table below `heading` on the page of tools."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@dataclass(frozen=True)
class Done:
    """How a tool ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both together."""
        return self.out + self.err


class JavaTools:
    """Runs tools one after the other; `close` ends the process."""

    def __init__(self, log_file: Path) -> None:
        self._log = log_file.open("w")
        self._process = subprocess.Popen(
            java(str(SOURCE)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def run(self, main_class: str, *arguments: str, stdin: str = "") -> Done:
        """Runs a tool to its end, as `KAFKA/bin/….sh ARGUMENTS` does."""
        asked = {"class": main_class, "arguments": arguments, "stdin": stdin}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        while True:
            try:
                line = self._lines.get(timeout=SECONDS)
            except Empty:
                self._process.kill()
                raise AssertionError(
                    f"{main_class} {' '.join(arguments)} did not end in {SECONDS} s"
                ) from None
            assert line, f"Java ended at {main_class} {' '.join(arguments)}: see {self._log.name}"
            if line.startswith(MARK):
                return Done(**json.loads(line.removeprefix(MARK)))

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()
