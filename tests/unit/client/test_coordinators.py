"""Requests of Admin about groups: what may pass is tried again, what does not is told at once."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.client.admin import coordinators
from fastlog.client.admin.coordinators import CoordinatorRequests
from fastlog.errors import (
    CoordinatorLoadInProgressError,
    GroupAuthorizationFailedError,
    KafkaError,
    NotReachableError,
)
from fastlog.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse

LOADING = ListGroupsResponse(error_code=CoordinatorLoadInProgressError.code)
FORBIDDEN = ListGroupsResponse(error_code=GroupAuthorizationFailedError.code)
FOUND = ListGroupsResponse()


class Scripted(CoordinatorRequests):
    """Gives these answers, one after the other, the last for ever; time goes by only where it waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        super().__init__(None, client_id="c", request_timeout_ms=1_000)  # type: ignore[arg-type]
        self.answers = list(answers)
        self.asked = 0
        self.now_ms = 0.0
        monkeypatch.setattr(coordinators, "monotonic_ms", lambda: self.now_ms)
        monkeypatch.setattr(coordinators.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now_ms += seconds * 1_000

    def request(self, address: tuple[str, int], request: Any, *, timeout_ms: float) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def list(self) -> Any:
        """Asks with five seconds of time."""
        return self.ask_broker(
            ("h", 1), ListGroupsRequest(), lambda it: int(it.error_code), 5_000, what="listing groups"
        )


def test_a_broker_that_reads_its_groups_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Scripted(monkeypatch, LOADING, NotReachableError("away"), LOADING, FOUND)
    assert asked.list() is FOUND
    assert asked.asked == 4


@pytest.mark.parametrize("answer", [LOADING, NotReachableError("away")], ids=["loading", "away"])
def test_a_broker_is_asked_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    asked = Scripted(monkeypatch, answer)
    with pytest.raises((CoordinatorLoadInProgressError, NotReachableError)):
        asked.list()
    assert 3_000 < asked.now_ms <= 5_000
    assert 5 < asked.asked < 100


def test_what_does_not_pass_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Scripted(monkeypatch, FORBIDDEN)
    with pytest.raises(KafkaError, match="listing groups, asked of h:1"):
        asked.list()
    assert asked.asked == 1
