"""Requests and answers over one Channel: correlation, deadlines, and the versions that both sides speak. Never
blocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fastlog
from fastlog.client.versions import common_version
from fastlog.errors import FastlogError
from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.api_versions import ApiVersionsRequest
from fastlog.transport.channel import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.transport.channel import Bytes, Channel

CORRELATION_ID = struct.Struct(">i")
CORRELATION_END = 2**31
UNSUPPORTED_VERSION = 35
API_VERSIONS_FLEXIBLE = 3


@dataclass(slots=True)
class Unanswered:
    """A request whose answer is awaited."""

    correlation_id: int
    api_key: int
    version: int
    deadline_ms: float
    token: Any
    sent_ms: float
    #: reads the usual answer quicker than the codec, from the version and the bytes; None where it is another
    read: Callable[[int, Bytes], Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, with what the owner gave to `Link.send`."""

    token: Any
    message: Any


class Link:
    """One connection to one broker, from its start to its end.

    Times are of the owner's clock, in milliseconds. When ConnectionLostError is raised the link is of no use any more:
    look at `unanswered`, then `close` it.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        client_id: str,
        now_ms: float,
        connect_timeout_ms: float,
        request_timeout_ms: float,
    ) -> None:
        self.channel = channel
        #: whether requests can be sent: connected, and the broker has told its versions
        self.ready = False
        #: by correlation id, oldest first
        self.unanswered: dict[int, Unanswered] = {}
        self._client_id = client_id
        self._began_ms = now_ms
        self._connect_deadline_ms = now_ms + connect_timeout_ms
        self._connect_timeout_ms = connect_timeout_ms
        self._request_timeout_ms = request_timeout_ms
        self._offered: Mapping[int, tuple[int, int]] = {}
        self._next_correlation_id = 0
        self._greeted = False
        self._failure: ConnectionLostError | None = None

    def __repr__(self) -> str:
        return (
            f"<Link {self.address}{'' if self.ready else ' connecting'}, {len(self.unanswered)} unanswered>"
        )

    @property
    def address(self) -> str:
        """Where the broker is, for messages."""
        return self.channel.address

    def version(self, api_key: int) -> int:
        """The version of `api_key` to be used; the link must be ready. Raises UnsupportedVersionError."""
        return common_version(api_key, self._offered, self.address)

    def send(
        self,
        request: Any,
        version: int,
        token: object,
        now_ms: float,
        *,
        timeout_ms: float = 0,
        answered: bool = True,
    ) -> None:
        """Sends `request`; its Answer carries `token`. `answered=False`: the broker gives none (acks=0).

        `request` is one of the codec's, or has `encode_parts` and `read_answer` in its place, as SealedRequest.
        `timeout_ms` replaces the request time-out for this request. Raises ConnectionLostError; the request then is
        among the unanswered.
        """
        correlation_id = self._next_correlation_id
        self._next_correlation_id = (correlation_id + 1) % CORRELATION_END
        encode, read = getattr(request, "encode_parts", None), getattr(request, "read_answer", None)
        if encode is None:
            parts = codec.encode_request_parts(request, version, correlation_id, self._client_id)
        else:
            parts = encode(version, correlation_id, self._client_id)
        if answered:
            deadline = now_ms + (timeout_ms or self._request_timeout_ms)
            api_key = int(request.API_KEY)
            self.unanswered[correlation_id] = Unanswered(
                correlation_id, api_key, version, deadline, token, now_ms, read
            )
        self.channel.send(*parts)

    def process(self, now_ms: float) -> list[Answer]:
        """Goes on with everything that can go on and returns the answers that came. Raises ConnectionLostError."""
        if self._failure is not None:
            raise self._failure
        answers: list[Answer] = []
        try:
            self._collect(answers, now_ms)
            self._check_deadlines(now_ms)
        except ConnectionLostError as error:
            if not answers:
                raise
            # the answers that came before the end count; the end is told next time
            self._failure = error
        return answers

    def next_deadline_ms(self) -> float:
        """When `process` is to be called at the latest; infinity where nothing is awaited."""
        if not self.ready:
            return self._connect_deadline_ms
        return min((request.deadline_ms for request in self.unanswered.values()), default=float("inf"))

    def silent_ms(self, now_ms: float) -> float:
        """For how long the connection is being made, or the oldest unanswered request has waited; 0 for neither."""
        if not self.ready:
            return now_ms - self._began_ms
        return now_ms - min((request.sent_ms for request in self.unanswered.values()), default=now_ms)

    def close(self) -> None:
        """Ends the connection; unanswered requests stay listed."""
        self.ready = False
        self.channel.close()

    def _collect(self, answers: list[Answer], now_ms: float) -> None:
        self.channel.advance()
        if self.channel.connected and not self._greeted:
            self._greeted = True
            self._ask_versions(API_VERSIONS_FLEXIBLE, now_ms)
        for message in self.channel.receive():
            answer = self._take(message)
            if answer.token is self:
                self._greeted_back(answer.message, now_ms)
            else:
                answers.append(answer)

    def _ask_versions(self, version: int, now_ms: float) -> None:
        request = ApiVersionsRequest(
            client_software_name="fastlog", client_software_version=fastlog.__version__
        )
        self.send(request, version, self, now_ms, timeout_ms=self._connect_timeout_ms)

    def _greeted_back(self, response: Any, now_ms: float) -> None:
        if response is None:
            self._ask_versions(0, now_ms)
            return
        if response.error_code:
            raise ConnectionLostError(
                f"the broker at {self.address} refused to tell its versions: error {response.error_code}"
            )
        self._offered = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
        self.ready = True

    def _take(self, message: Bytes) -> Answer:
        if len(message) < CORRELATION_ID.size:
            raise ConnectionLostError(f"what answers at {self.address} does not speak Kafka's protocol")
        (correlation_id,) = CORRELATION_ID.unpack_from(message)
        request = self.unanswered.pop(correlation_id, None)
        if request is None:
            raise ConnectionLostError(
                f"the broker at {self.address} answered a request {correlation_id} never sent"
            )
        if request.api_key == ApiKey.API_VERSIONS and message[4:6] == UNSUPPORTED_VERSION.to_bytes(2, "big"):
            # the body is of version 0 then, whatever was asked
            return Answer(request.token, None)
        quickly = request.read(request.version, message) if request.read is not None else None
        if quickly is not None:
            return Answer(request.token, quickly)
        try:
            _, response = codec.decode_response_frame(request.api_key, request.version, message)
        except FastlogError as error:
            self.unanswered = {correlation_id: request, **self.unanswered}
            raise ConnectionLostError(
                f"the answer of {self.address} to {ApiKey(request.api_key).name} cannot be read: {error}"
            ) from error
        return Answer(request.token, response)

    def _check_deadlines(self, now_ms: float) -> None:
        if not self.ready and now_ms >= self._connect_deadline_ms:
            raise ConnectionLostError(
                f"the connection to {self.address} could not be made within {self._connect_timeout_ms:.0f} ms"
            )
        for request in self.unanswered.values():
            if request.deadline_ms <= now_ms:
                raise ConnectionLostError(
                    f"the broker at {self.address} did not answer {ApiKey(request.api_key).name} in time "
                    "(request_timeout_ms)"
                )
