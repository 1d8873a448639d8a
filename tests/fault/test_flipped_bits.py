"""A bit turns in any kind of file of a data directory: while the broker is down, or under it.

Either it is refused with the file's name, and with the bit turned back everything is there; or what is served is true.
Bytes of segments have tests of their own (`test_flipped_byte`); indexes turned bit by bit are in the log's own tests.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from fastlog import Admin, Consumer, Producer
from fastlog.errors import FastlogError
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until

RECORDS = 120
SECONDS = 20.0
#: after which there is no more
SILENCE_SECONDS = 2.0
TOPIC, COMPACTED, CUT = "orders", "states", "cut"
IN_DIRECTORY = (
    "meta.properties",
    "fastlog.run",
    "metadata.sqlite",
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
)
#: by their ends; of the partition of `TOPIC`
IN_PARTITION = (".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint", "partition.metadata")
KINDS = IN_DIRECTORY + IN_PARTITION
#: any bit of these is told: a possible offset that is not true could hide records, or show what was not committed
CHECKPOINTS = (
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
)

#: what one of the bits is to be in, in a large file
TELLING = {"metadata.sqlite": b"[1]"}

pytestmark = pytest.mark.timeout(240)


def value(number: int) -> bytes:
    """Of another length for each."""
    return b"%06d " % number + b"." * random.Random(number).randrange(300, 900)


SETTINGS = {"log.retention.ms": "-1", "log.cleaner.backoff.ms": "50"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directories of a broker that was stopped, and of the same one when it was killed: with a topic of several
    segments, and a compacted one that was cleaned."""
    folder = tmp_path_factory.mktemp("sound")
    made = BrokerProcess(folder / "data", settings=SETTINGS).start()
    try:
        fill(made)
        assert made.stop() == 0, made.log()
        shutil.copytree(made.data_dir, folder / "stopped")
        made.start()
    finally:
        made.kill()
    made.data_dir.rename(folder / "killed")
    return folder


def fill(broker: BrokerProcess) -> None:
    create_topic(broker.bootstrap, TOPIC, config={"segment.ms": "20000", "index.interval.bytes": "512"})
    cleaned = {"cleanup.policy": "compact", "segment.ms": "20000", "min.cleanable.dirty.ratio": "0.01"}
    create_topic(broker.bootstrap, COMPACTED, config=cleaned)
    with Producer(broker.bootstrap, batch_bytes=2048) as producer:
        for number in range(RECORDS):
            time_ms = 1_700_000_000_000 + number * 1000
            producer.send(TOPIC, value(number), timestamp_ms=time_ms, partition=0)
            key = b"%d" % (number % 7)
            producer.send(COMPACTED, value(number), key=key, timestamp_ms=time_ms, partition=0)
        producer.flush()
    create_topic(broker.bootstrap, CUT)
    with Producer(broker.bootstrap) as producer:
        for number in range(RECORDS):
            producer.send(CUT, value(number), partition=0)
    with Admin(broker.bootstrap) as admin:
        admin.delete_records({(CUT, 0): RECORDS // 2})
    checkpoint = broker.data_dir / "cleaner-offset-checkpoint"
    wait_until("the compacted topic is cleaned", lambda: COMPACTED in text_of(checkpoint))


@pytest.fixture
def broker(make_broker: MakeBroker) -> BrokerProcess:
    """Not started; its directory is a copy of a sound one."""
    return make_broker(settings=SETTINGS, start=False)


def lay_out(broker: BrokerProcess, sound: Path) -> None:
    shutil.rmtree(broker.data_dir, ignore_errors=True)
    shutil.copytree(sound, broker.data_dir)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def file_of(broker: BrokerProcess, kind: str) -> Path:
    """The file of that kind; of several the one in the middle that is not empty."""
    if kind in IN_DIRECTORY:
        return broker.data_dir / kind
    folder = broker.data_dir / f"{TOPIC}-0"
    found = sorted(path for path in folder.glob(f"*{kind}") if path.stat().st_size)
    assert found, kind
    return found[len(found) // 2]


def turn_a_bit(path: Path, seed: int) -> str:
    """Turns one bit in place, of a byte that says something; where."""
    content = path.read_bytes()
    at = random.Random(seed).choice([at for at, byte in enumerate(content) if byte])
    if seed == 1 and (telling := content.find(TELLING.get(path.name, b""))) > 0:
        at = telling
    turned = content[at] ^ 1 << random.Random(-seed).randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([turned]))
    return f"byte {at} of {len(content)} of {path.name}: {content[at]:#04x} became {turned:#04x}"


def segments(broker: BrokerProcess) -> dict[str, bytes]:
    """Those that no cleaner changes."""
    return {path.name: path.read_bytes() for path in sorted((broker.data_dir / f"{TOPIC}-0").glob("*.log"))}


def read(broker: BrokerProcess, topic: str) -> dict[int, bytes | None]:
    """What a consumer gives up to the last record that was sent, or until it gives no more."""
    found: dict[int, bytes | None] = {}
    with Consumer(broker.bootstrap) as consumer:
        consumer.assign([(topic, 0)])
        consumer.seek((topic, 0), 0)
        try:
            # its offset: of a compacted topic not all are there
            while RECORDS - 1 not in found and (more := consumer.poll(timeout=SILENCE_SECONDS)):
                found.update((it.offset, it.value) for it in more)
        except FastlogError:
            # what is told of it is in the broker's log
            return found
    return found


def check_true(broker: BrokerProcess, what: str) -> None:
    """All that is served is true, and what is not served is told."""
    for topic in (TOPIC, COMPACTED):
        found = {offset: it for offset, it in read(broker, topic).items() if offset < RECORDS}
        assert found == {number: value(number) for number in found}, what
        # a file is told by name, lost metadata by the directory that is nobody's then
        is_told = any(f"{topic}-0" in line for line in broker.log().splitlines() if "level=info" not in line)
        assert is_told or RECORDS - 1 in found, f"{topic} is not served and nobody is told: {what}"
        assert is_told or topic == COMPACTED or len(found) == RECORDS, f"lost and nobody is told: {what}"


def start(broker: BrokerProcess) -> str | None:
    """Why the start was refused; None where it was not."""
    broker.log_file.write_text("")
    try:
        broker.start()
    except AssertionError:
        assert broker.process is not None
        assert broker.process.wait(SECONDS) == 1
        return broker.log().splitlines()[-1]
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["stopped", "killed"])
@pytest.mark.parametrize("seed", [1, *(pytest.param(it, marks=pytest.mark.long) for it in range(2, 6))])
def test_a_bit_that_turned_at_rest(
    broker: BrokerProcess, sound: Path, kind: str, end: str, seed: int
) -> None:
    lay_out(broker, sound / end)
    before = segments(broker)
    what = f"{end}: {turn_a_bit(file_of(broker, kind), seed)}"
    print(what)
    refused = start(broker)
    assert "Traceback" not in broker.log(), what
    assert refused is not None or kind not in CHECKPOINTS, f"an offset is believed: {what}"
    if refused is None:
        check_true(broker, what)
        broker.kill()
    else:
        check_refused(refused, kind, what)
    assert segments(broker) == before, f"segments changed: {what}"


def check_refused(line: str, kind: str, what: str) -> None:
    assert line.startswith("fastlog: "), what
    assert kind in line or "metadata store" in line, f"{what}: {line}"


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_that_turns_under_a_running_broker(broker: BrokerProcess, sound: Path, kind: str) -> None:
    lay_out(broker, sound / "killed")
    broker.start()
    before = segments(broker)
    what = turn_a_bit(file_of(broker, kind), 1)
    print(what)
    check_true(broker, what)
    with Producer(broker.bootstrap) as producer:
        assert producer.send(TOPIC, b"more", partition=0).result(SECONDS).offset == RECORDS
    broker.stop()
    assert "Traceback" not in broker.log(), what
    after = segments(broker)
    assert all(after[path].startswith(data) for path, data in before.items()), what
    refused = start(broker)
    assert "Traceback" not in broker.log(), what
    if refused is None:
        check_true(broker, what)
    else:
        check_refused(refused, kind, what)
