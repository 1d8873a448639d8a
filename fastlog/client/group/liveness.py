"""When to send a heartbeat, and who has been silent for too long. No clock of its own."""

from __future__ import annotations

import math


class Liveness:
    """Three clocks of a member: the next heartbeat, the coordinator's last answer, the application's last poll."""

    def __init__(
        self, *, session_timeout_ms: float, heartbeat_interval_ms: float, max_poll_interval_ms: float
    ) -> None:
        """The application has polled at time 0."""
        self._session_timeout_ms = session_timeout_ms
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._max_poll_interval_ms = max_poll_interval_ms
        self._heard_ms = self._heartbeat_at_ms = math.inf
        self._polled_ms = 0.0
        self._in_flight = False

    def begin(self, now_ms: float) -> None:
        """The member is in a generation: heartbeats are due from now on."""
        self._heard_ms, self._in_flight = now_ms, False
        self._heartbeat_at_ms = now_ms + self._heartbeat_interval_ms

    def hurry(self, now_ms: float) -> None:
        """There is something to tell: the next heartbeat follows as soon as the one under way is answered."""
        self._heartbeat_at_ms = min(self._heartbeat_at_ms, now_ms)

    def every(self, heartbeat_interval_ms: float, now_ms: float) -> None:
        """Heartbeats are wanted in this interval from now on."""
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._heartbeat_at_ms = min(self._heartbeat_at_ms, now_ms + heartbeat_interval_ms)

    def polled(self, now_ms: float) -> None:
        """The application was here."""
        self._polled_ms = max(self._polled_ms, now_ms)

    def poll_expired(self, now_ms: float) -> bool:
        """Whether the application was away for too long."""
        return now_ms - self._polled_ms >= self._max_poll_interval_ms

    def session_expired(self, now_ms: float) -> bool:
        """Whether the coordinator was silent for so long that it has given this member up."""
        return now_ms - self._heard_ms >= self._session_timeout_ms

    def heartbeat_due(self, now_ms: float) -> bool:
        """Whether a heartbeat is to be sent."""
        return not self._in_flight and now_ms >= self._heartbeat_at_ms

    def sent(self, now_ms: float) -> None:
        """A heartbeat left."""
        self._in_flight = True
        self._heartbeat_at_ms = now_ms + self._heartbeat_interval_ms

    def heard(self, now_ms: float) -> None:
        """The coordinator answered one well."""
        self._heard_ms, self._in_flight = now_ms, False

    def missed(self, retry_at_ms: float) -> None:
        """A heartbeat was lost or refused; the next one follows sooner."""
        self._in_flight = False
        self._heartbeat_at_ms = min(self._heartbeat_at_ms, retry_at_ms)

    def next_beat_ms(self) -> float:
        """When a heartbeat is due, or the coordinator's silence has lasted too long."""
        heartbeat = math.inf if self._in_flight else self._heartbeat_at_ms
        return min(heartbeat, self._heard_ms + self._session_timeout_ms)

    def next_poll_ms(self) -> float:
        """When the application will have been away for too long."""
        return self._polled_ms + self._max_poll_interval_ms
