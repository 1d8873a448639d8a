"""Commands between brokers, over real sockets on loopback."""

from __future__ import annotations

import gc
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from fastlog.broker.peers import client
from fastlog.broker.peers.client import PeerClient
from fastlog.broker.peers.framing import encode_command
from fastlog.broker.peers.link import IN_FLIGHT_MAX
from fastlog.broker.peers.messages import Answer, AskRefused, AskSnapshot, Refused
from fastlog.broker.peers.ports import ADMIN, REPLICATION
from fastlog.broker.peers.server import CommandTable
from fastlog.ports import Registration
from tests.support.broker import wait_until
from tests.support.peers import CLUSTER, WAIT_SECONDS, Answers, PeerServer, registration

OWN = 1
OTHER = 2


def asked(number: int) -> AskRefused:
    return AskRefused(broker_id=number, broker_epoch=number)


@pytest.fixture
def own() -> CommandTable:
    return CommandTable()


@pytest.fixture
def lost() -> queue.SimpleQueue[int]:
    return queue.SimpleQueue()


@pytest.fixture
def peers(own: CommandTable, lost: queue.SimpleQueue[int]) -> Iterator[PeerClient]:
    made = PeerClient(OWN, CLUSTER, own.take, lost=lambda each: lost.put(each.broker_id))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def other() -> Iterator[PeerServer]:
    with PeerServer(OTHER) as server:
        yield server


@pytest.fixture
def answers() -> Answers:
    return Answers()


def ask(
    peers: PeerClient,
    answers: Answers,
    command: Any,
    *,
    name: Any = "",
    to: int = OTHER,
    timeout_ms: int = 10_000,
) -> None:
    peers.ask(to, command, answers.of(name), timeout_ms=timeout_ms, lane=ADMIN)


def answer_refused(command: AskRefused, answered: Callable[[Answer], None]) -> None:
    answered(Answer(body=Refused(refused=command.broker_id == 7)))


def test_a_command_is_answered(peers: PeerClient, other: PeerServer, answers: Answers) -> None:
    other.commands.on(AskRefused, answer_refused)
    peers.know([other.registration])
    for number in (7, 8):
        ask(peers, answers, asked(number))
        assert answers.next()[1] == Answer(body=Refused(refused=number == 7))


def test_answers_may_come_in_another_order(peers: PeerClient, other: PeerServer, answers: Answers) -> None:
    waiting: list[Callable[[Answer], None]] = []

    def take(command: AskRefused, answered: Callable[[Answer], None]) -> None:
        waiting.append(answered)
        if len(waiting) == 3:
            for number, each in reversed(list(enumerate(waiting))):
                each(Answer(code=0, message=f"answer {number}"))

    other.commands.on(AskRefused, take)
    peers.know([other.registration])
    for number in range(3):
        ask(peers, answers, asked(number), name=number)
    assert [answers.next() for _ in range(3)] == [
        (number, Answer(message=f"answer {number}")) for number in (2, 1, 0)
    ]


def test_more_commands_than_fly_at_once_keep_their_order(
    peers: PeerClient, other: PeerServer, answers: Answers
) -> None:
    came: list[int] = []

    def take(command: AskRefused, answered: Callable[[Answer], None]) -> None:
        came.append(command.broker_id)
        answered(Answer())

    other.commands.on(AskRefused, take)
    peers.know([other.registration])
    count = 3 * IN_FLIGHT_MAX
    for number in range(count):
        ask(peers, answers, asked(number), name=number)
    assert [answers.next()[0] for _ in range(count)] == list(range(count))
    assert came == list(range(count))


def test_a_command_to_oneself_needs_no_network(
    peers: PeerClient, own: CommandTable, answers: Answers
) -> None:
    own.on(AskRefused, answer_refused)
    ask(peers, answers, asked(7), to=OWN)
    assert answers.next()[1].body == Refused(refused=True)
    ask(peers, answers, AskSnapshot(), to=OWN)
    assert answers.next()[1].code == 35


def test_a_slow_look_up_of_a_name_holds_up_nobody_else(
    peers: PeerClient, other: PeerServer, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def slow(host: str, port: int) -> str:
        assert may_end.wait(WAIT_SECONDS)
        if host == "absent":
            raise OSError("no such name")
        return "127.0.0.1"

    monkeypatch.setattr(client, "look_up_host", slow)
    with PeerServer(3) as named, PeerServer(4) as absent:
        live = [
            other.registration,
            named_as(named.registration, "somewhere"),
            named_as(absent.registration, "absent"),
        ]
        for server in (other, named):
            server.commands.on(AskRefused, answer_refused)
        peers.know(live)
        for broker_id in (3, 4):
            for number in (1, 2):
                ask(peers, answers, asked(number), name=(broker_id, number), to=broker_id)
        ask(peers, answers, asked(1), name="numeric")
        assert answers.next()[0] == "numeric"
        ask(peers, answers, asked(1), name="impatient", to=3, timeout_ms=50)
        assert answers.next() == (
            "impatient",
            Answer(code=7, message="broker 3 did not answer in time"),
        )
        may_end.set()
        told = dict(answers.next() for _ in range(4))
        assert {name: answer.code for name, answer in told.items()} == {
            (3, 1): 0,
            (3, 2): 0,
            (4, 1): 13,
            (4, 2): 13,
        }
        assert "the name absent of broker 4 is not found" in told[4, 1].message


def test_a_broker_whose_name_cannot_be_one_costs_the_others_nothing(
    peers: PeerClient, other: PeerServer, answers: Answers
) -> None:
    other.commands.on(AskRefused, answer_refused)
    nameless = named_as(registration(3, 9292), "no..name")
    peers.know([other.registration, nameless])
    ask(peers, answers, asked(1), name="nameless", to=3)
    assert "no..name" in answers.next()[1].message
    ask(peers, answers, asked(7), name="other")
    assert answers.next() == ("other", Answer(body=Refused(refused=True)))


def test_a_command_that_cannot_be_sent_costs_the_others_nothing(
    peers: PeerClient, other: PeerServer, answers: Answers
) -> None:
    other.commands.on(AskRefused, answer_refused)
    peers.know([other.registration])
    ask(peers, answers, object(), name="no command")
    assert answers.next()[1].code == 13
    ask(peers, answers, asked(7), name="command")
    assert answers.next() == ("command", Answer(body=Refused(refused=True)))


def named_as(registered: Registration, host: str) -> Registration:
    port = registered.endpoints["BROKER"][1]
    return msgspec.structs.replace(registered, endpoints={"BROKER": (host, port)})


def test_a_broker_that_nobody_knows(peers: PeerClient, answers: Answers) -> None:
    ask(peers, answers, asked(1))
    assert answers.next()[1] == Answer(code=13, message="broker 2 is not registered")


def test_a_peer_that_refuses_connections(
    peers: PeerClient, answers: Answers, lost: queue.SimpleQueue[int]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        peers.know([registration(OTHER, unused.getsockname()[1])])
        ask(peers, answers, asked(1))
        assert answers.next()[1].code == 13
        assert lost.get(timeout=WAIT_SECONDS) == OTHER


def test_a_peer_that_dies(
    peers: PeerClient, other: PeerServer, answers: Answers, lost: queue.SimpleQueue[int]
) -> None:
    came = threading.Event()
    other.commands.on(AskRefused, lambda command, answered: came.set())
    peers.know([other.registration])
    ask(peers, answers, asked(1))
    assert came.wait(WAIT_SECONDS)
    assert lost.empty()
    other.stop()
    assert answers.next()[1].code == 13
    assert lost.get(timeout=WAIT_SECONDS) == OTHER


def test_the_death_of_a_peer_that_was_asked_nothing_is_noticed(
    peers: PeerClient, other: PeerServer, answers: Answers, lost: queue.SimpleQueue[int]
) -> None:
    other.commands.on(AskRefused, answer_refused)
    peers.know([other.registration])
    # the way is there
    peers.ask(OTHER, asked(1), answers.of(""), timeout_ms=10_000, lane=REPLICATION)
    assert answers.next()[1].code == 0
    other.stop()
    assert lost.get(timeout=WAIT_SECONDS) == OTHER


def test_a_registration_that_is_gone_or_new_ends_what_was_asked(
    peers: PeerClient, other: PeerServer, answers: Answers
) -> None:
    came: queue.SimpleQueue[None] = queue.SimpleQueue()
    other.commands.on(AskRefused, lambda command, answered: came.put(None))
    for then in ([], [registration(OTHER, other.port, epoch=2)]):
        peers.know([other.registration])
        ask(peers, answers, asked(1))
        came.get(timeout=WAIT_SECONDS)
        peers.know(then)
        assert answers.next()[1].code == 13


def test_a_silent_peer_is_not_waited_for(peers: PeerClient, other: PeerServer, answers: Answers) -> None:
    held: queue.Queue[Callable[[Answer], None]] = queue.Queue()
    other.commands.on(AskRefused, lambda command, answered: held.put(answered))
    other.commands.on(AskSnapshot, lambda command, answered: answered(Answer(message="here")))
    peers.know([other.registration])
    ask(peers, answers, asked(1), timeout_ms=50)
    assert answers.next()[1].code == 7
    # what comes too late is nobody's answer; on a loaded machine the peer hears of it late, too
    held.get(timeout=WAIT_SECONDS)(Answer(message="late"))
    ask(peers, answers, AskSnapshot())
    assert answers.next()[1] == Answer(message="here")
    assert answers.is_empty()


def test_a_peer_that_answers_nothing_any_more_gets_a_new_connection(
    peers: PeerClient, other: PeerServer, answers: Answers
) -> None:
    other.commands.on(AskRefused, lambda command, answered: None)
    other.commands.on(AskSnapshot, lambda command, answered: answered(Answer()))
    peers.know([other.registration])
    for number in range(IN_FLIGHT_MAX):
        ask(peers, answers, asked(number), timeout_ms=50)
    for _ in range(IN_FLIGHT_MAX):
        assert answers.next()[1].code == 7
    ask(peers, answers, AskSnapshot())
    first = answers.next()[1]
    if first.code == 13:
        ask(peers, answers, AskSnapshot())
        first = answers.next()[1]
    assert first.code == 0


def test_a_handler_that_fails_is_an_answer(peers: PeerClient, other: PeerServer, answers: Answers) -> None:
    def fail(command: AskRefused, answered: Callable[[Answer], None]) -> None:
        raise ValueError("broken")

    other.commands.on(AskRefused, fail)
    peers.know([other.registration])
    ask(peers, answers, asked(1))
    assert answers.next()[1] == Answer(code=-1, message="ValueError: broken")


def test_the_stop_answers_everything(own: CommandTable, other: PeerServer, answers: Answers) -> None:
    peers = PeerClient(OWN, CLUSTER, own.take)
    peers.start()
    own.on(AskRefused, lambda command, answered: None)
    other.commands.on(AskRefused, lambda command, answered: None)
    peers.know([other.registration])
    for to in (OWN, OTHER):
        ask(peers, answers, asked(1), to=to)
    peers.stop()
    peers.stop()
    ask(peers, answers, asked(1))
    assert [answers.next()[1].code for _ in range(3)] == [13, 13, 13]


def test_a_broker_of_another_cluster_is_not_the_one_that_was_asked(
    peers: PeerClient, answers: Answers, lost: queue.SimpleQueue[int]
) -> None:
    with PeerServer(OTHER, cluster_id="another") as stranger:
        stranger.commands.on(AskRefused, answer_refused)
        peers.know([stranger.registration])
        ask(peers, answers, asked(1))
        assert answers.next()[1].code == 13
        assert lost.get(timeout=WAIT_SECONDS) == OTHER


def raw_dealer(port: int) -> zmq.Socket[bytes]:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.linger = 0
    dealer.rcvtimeo = int(WAIT_SECONDS * 1000)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    return dealer


COMMAND = encode_command(5, CLUSTER, AskSnapshot())
MESSAGE = 10 + len(CLUSTER)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        # a version that is not known
        ([struct.pack(">hhih", 32000, 1, 5, -1) + COMMAND[MESSAGE:]], 35),
        # no MessagePack, no such kind, no such fields
        ([COMMAND[:MESSAGE] + b"\xc1"], 42),
        ([COMMAND[:MESSAGE] + b"\x92\xa4What\x80"], 42),
        ([COMMAND[:MESSAGE] + b"\x92\xaaAskRefused\x80"], 42),
        # nobody takes it; in one frame and in many
        ([COMMAND], 35),
        ([COMMAND[:1], b"", COMMAND[1:]], 35),
        # of another cluster, of none
        ([encode_command(5, "another", AskSnapshot())], 104),
        ([struct.pack(">hhih", 32000, 0, 5, -1) + COMMAND[MESSAGE:]], 104),
    ],
)
def test_commands_that_are_garbage_are_answered(other: PeerServer, frames: list[bytes], code: int) -> None:
    with raw_dealer(other.port) as dealer:
        dealer.send_multipart(frames)
        assert struct.unpack_from(">ih", dealer.recv()) == (5, code)


def test_other_requests_are_the_engines(other: PeerServer) -> None:
    with raw_dealer(other.port) as dealer:
        # a header that ends early is refused without an answer, and harms nobody
        dealer.send(struct.pack(">hhih", 32000, 0, 5, 99))
        requests = [bytes([0, 1]) + bytes([number]) * 10 for number in range(100)]
        for request in requests:
            dealer.send(request)
        assert [dealer.recv() for _ in requests] == requests


@pytest.mark.parametrize("garbage", [b"", b"\0\0", struct.pack(">ihh", 1, 0, 99), b"\xff" * 50])
def test_garbage_for_an_answer_ends_the_connection(
    peers: PeerClient, answers: Answers, garbage: bytes
) -> None:
    router: Any = zmq.Context.instance().socket(zmq.ROUTER)
    with router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        peers.know([registration(OTHER, port)])
        ask(peers, answers, asked(1))
        identity, _ = router.recv_multipart()
        router.send_multipart([identity, garbage])
        assert answers.next()[1].code == 13


def test_no_descriptor_is_left(own: CommandTable, answers: Answers) -> None:
    def once() -> None:
        with PeerServer(OTHER) as server:
            server.commands.on(AskRefused, answer_refused)
            peers = PeerClient(OWN, CLUSTER, own.take)
            peers.start()
            peers.know([server.registration])
            ask(peers, answers, asked(7))
            assert answers.next()[1].code == 0
            peers.know([])
            peers.stop()

    def count() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    once()
    before = count()
    for _ in range(3):
        once()
    # a client that another test left open may hold one more for a moment
    wait_until("all are closed", lambda: count() <= before)
