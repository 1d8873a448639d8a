"""What a broker remembers of idempotent producers (kill -9, clean stop, spoilt snapshots), seen by what it answers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.wire import Batch, RawConnection, produce_request, record

OUT_OF_ORDER, INVALID_EPOCH = 45, 47
TOPIC = "sequences"
INT_MAX = 2**31 - 1


def send(
    connection: RawConnection, sequence: int, *, producer_id: int = 7, epoch: int = 3
) -> tuple[int, int]:
    """Error code and base offset that one batch of one record is answered with."""
    batch = Batch(producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence).encode()
    answer = connection.ask(produce_request(TOPIC, batch))
    assert answer is not None
    # correlation id, topics, name, partitions, index
    position = 4 + 4 + 2 + len(TOPIC) + 4 + 4
    code, offset = struct.unpack_from(">hq", answer, position)
    return int(code), int(offset)


def snapshots(broker: BrokerProcess) -> list[Path]:
    return sorted((broker.data_dir / f"{TOPIC}-0").glob("*.snapshot"))


def leave(broker: BrokerProcess) -> None:
    pass


def remove(broker: BrokerProcess) -> None:
    for path in snapshots(broker):
        path.unlink()


def spoil(broker: BrokerProcess) -> None:
    for path in snapshots(broker):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


def keep_the_oldest(broker: BrokerProcess) -> None:
    for path in snapshots(broker)[1:]:
        path.unlink()


@pytest.mark.parametrize("change", [leave, remove, spoil, keep_the_oldest], ids=lambda it: it.__name__)
@pytest.mark.parametrize("end", ["kill -9", "SIGTERM"])
def test_sequences_after_a_restart(make_broker: MakeBroker, end: str, change: object) -> None:
    broker = make_broker(settings={"log.segment.bytes": str(1 << 20)})
    create_topic(broker.bootstrap, TOPIC)
    with RawConnection(broker.tcp_port) as connection:
        sent = [send(connection, sequence) for sequence in range(7)]
        assert sent == [(0, offset) for offset in range(7)]
        wrapping = [send(connection, sequence, producer_id=8) for sequence in (INT_MAX - 1, INT_MAX, 0)]
        assert [code for code, _ in wrapping] == [0, 0, 0]
        # a segment and its snapshot behind them, and another one
        fill(connection)
    assert len(snapshots(broker)) >= 2
    broker.stop() if end == "SIGTERM" else broker.kill()
    assert callable(change)
    change(broker)
    broker.start()
    with RawConnection(broker.tcp_port) as connection:
        assert [send(connection, sequence) for sequence in range(2, 7)] == sent[2:]
        assert [send(connection, sequence)[0] for sequence in (0, 1, 8)] == [OUT_OF_ORDER] * 3
        assert send(connection, 7, epoch=2)[0] == INVALID_EPOCH
        assert send(connection, 7, epoch=4)[0] == OUT_OF_ORDER, "a new epoch begins at 0"
        assert send(connection, 7)[0] == 0
        assert send(connection, 0, epoch=4)[0] == 0
        assert send(connection, INT_MAX, producer_id=8) == wrapping[1]
        assert send(connection, 1, producer_id=8)[0] == 0
        assert send(connection, 77, producer_id=9)[0] == 0, "who is not known may start anywhere"


def fill(connection: RawConnection) -> None:
    """Some megabytes, so that segments become full."""
    batch = Batch([record(0, bytes(500_000))]).encode()
    for _ in range(6):
        assert connection.ask(produce_request(TOPIC, batch)) is not None


@pytest.mark.parametrize("end", [None, "SIGTERM"])
def test_a_silent_producer_is_forgotten(make_broker: MakeBroker, end: str | None) -> None:
    """Also where the broker was down meanwhile."""
    settings = {"log.retention.check.interval.ms": "50"}
    broker = make_broker(settings=settings | ({} if end else {"producer.id.expiration.ms": "1500"}))
    create_topic(broker.bootstrap, TOPIC)
    with RawConnection(broker.tcp_port) as connection:
        assert send(connection, 0)[0] == 0
        assert send(connection, 9)[0] == OUT_OF_ORDER
    if end:
        broker.stop()
        broker.settings = settings | {"producer.id.expiration.ms": "1"}
        broker.start()
    with RawConnection(broker.tcp_port) as connection:
        wait_until("its next sequence is accepted, whatever it is", lambda: send(connection, 9)[0] == 0)
