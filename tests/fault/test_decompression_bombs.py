"""Batches of some hundred kilobytes that expand to 300 MiB: refused by broker and consumer, which both stay small."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from fastlog import Consumer
from fastlog.errors import CorruptMessageError
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.batches import CODECS, NOW_MS, seal, with_fields
from tests.support.fake_cluster import FakeCluster
from tests.support.faults.onlooker import MIB, Onlooker
from tests.support.wire import Batch, RawConnection, produce_error, produce_request

MESSAGE_TOO_LARGE = 10
EXPANDED_BYTES = 300 * MIB
# the most that any batch may expand to
EXPANDED_BYTES_MAX = 256 * MIB
STORED_BYTES = 200 * MIB
CODEC_BITS = 7
COMPRESSIONS = [name for name in CODECS if name != "none"]


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """One record of zeros, compressed with each codec."""
    rows = [(NOW_MS, None, bytes(EXPANDED_BYTES), ())]
    return {name: seal(rows, CODECS[name]) for name in COMPRESSIONS}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_broker_looks_into_a_bomb_piece_by_piece(
    make_broker: MakeBroker, compression: str, bombs: dict[str, bytes], topic_name: str
) -> None:
    # snappy needs 14 MiB for it
    broker = make_broker(settings={"message.max.bytes": str(32 * MIB)})
    create_topic(broker.bootstrap, topic_name)
    frame = produce_request(topic_name, bombs[compression])
    with Onlooker(broker) as onlooker, RawConnection(broker.tcp_port) as connection:
        for _ in range(3):
            answer = connection.ask(frame)
            assert answer is not None
            assert produce_error(answer) == MESSAGE_TOO_LARGE
        # the next one is as good as if nothing had been
        answer = connection.ask(produce_request(topic_name, Batch().encode()))
        assert answer is not None
        assert produce_error(answer) == 0
    grown = onlooker.grown_bytes - 2 * len(frame)
    assert grown < 32 * MIB, f"{grown / MIB:.0f} MiB"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_broker_compresses_anew_piece_by_piece(
    make_broker: MakeBroker, compression: str, topic_name: str
) -> None:
    """What expands less than a thousandfold is taken, here 200 MiB, and stored in the topic's codec."""
    value = random.Random(7).randbytes(MIB // 2) + bytes(STORED_BYTES)
    batch = seal([(NOW_MS, None, value, ())], CODECS[compression])
    broker = make_broker(settings={"message.max.bytes": str(32 * MIB)})
    other = "zstd" if compression == "lz4" else "lz4"
    create_topic(broker.bootstrap, topic_name, config={"compression.type": other})
    frame = produce_request(topic_name, batch)
    with Onlooker(broker) as onlooker, RawConnection(broker.tcp_port) as connection:
        connection.socket.settimeout(60)
        answer = connection.ask(frame)
        assert answer is not None
        assert produce_error(answer) == 0
    grown = onlooker.grown_bytes - 2 * len(frame)
    assert grown < 32 * MIB, f"{grown / MIB:.0f} MiB"
    stored = (broker.data_dir / f"{topic_name}-0" / f"{0:020}.log").read_bytes()
    assert stored[22] & CODEC_BITS == CODECS[other]
    with Consumer(broker.bootstrap, topics=topic_name, auto_offset_reset="earliest") as consumer:
        (record,) = consumer.poll(timeout=60)
        assert record.value == value


def peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_consumer_refuses_a_bomb_and_can_seek_past_it(compression: str, bombs: dict[str, bytes]) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        for _ in range(4):
            bomb = with_fields(bombs[compression], base_offset=partition.end)
            partition.append_batch(bomb, 1)
        partition.append(b"after")
        with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.subscribe(["t"])
            Path("/proc/self/clear_refs").write_text("5")
            before = peak_bytes()
            with pytest.raises(CorruptMessageError, match=r"offset 0 of t-0 .*limit"):
                consumer.poll(timeout=20)
            (assigned,) = consumer.assignment()
            consumer.seek(assigned, 4)
            (record,) = consumer.poll(timeout=20)
            assert record.value == b"after"
    # what is opened may reach the cap once, and its buffer grows by doubling
    grown = peak_bytes() - before - 8 * len(bombs[compression])
    assert grown < 2 * EXPANDED_BYTES_MAX, f"{grown / MIB:.0f} MiB"
    print(f"grown by {grown / MIB:.0f} MiB")
