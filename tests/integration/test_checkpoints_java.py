"""Kafka reads the offset checkpoints of a data directory, in which everything is said twice."""

from __future__ import annotations

from pathlib import Path

from fastlog import Admin, Producer
from tests.conftest import MakeBroker
from tests.integration.kafka import tool
from tests.support.admin import create_topic

SOURCE = Path(__file__).parent / "kafka" / "Checkpoints.java"
ENDS = {"orders-0": 9, "orders-1": 12}
START = 4


def test_kafka_reads_our_checkpoints(make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "orders", partitions=len(ENDS))
    with Producer(broker.bootstrap) as producer:
        for partition, end in enumerate(ENDS.values()):
            for number in range(end):
                producer.send("orders", b"%d" % number, partition=partition)
        producer.flush()
    with Admin(broker.bootstrap) as admin:
        admin.delete_records({("orders", 1): START})
    assert broker.stop() == 0, broker.log()
    names = ("recovery-point", "replication", "log-start")
    paths = [broker.data_dir / f"{name}-offset-checkpoint" for name in names]
    assert all("\norders  1  " in path.read_text() for path in paths)
    expected = [f"{path.name} {key} {end}" for path in paths[:2] for key, end in ENDS.items()]
    expected.append(f"{paths[2].name} orders-1 {START}")
    assert tool(str(SOURCE), *map(str, paths)).splitlines() == expected
