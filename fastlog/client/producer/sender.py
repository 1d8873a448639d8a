"""The producer's one sending thread: takes due batches, sends them to their leaders, and carries out what answers
mean.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastlog.client.metadata import NO_LEADER
from fastlog.client.producer import requests
from fastlog.client.producer.hold import Hold
from fastlog.client.producer.inline import LOOK_INTERVAL_MS, InlineSender
from fastlog.client.producer.outage import Change, Outage
from fastlog.client.producer.partition_queue import Action, Verdict
from fastlog.client.producer.requests import Outcome, ProduceToken, outcome_of
from fastlog.errors import DeliveryTimeoutError, FastlogError, error_for
from fastlog.native._collecting import LONGEST_BLOCKED_MS
from fastlog.native._produce import Written, acknowledge
from fastlog.native._sending import Lock
from fastlog.protocol.api import ApiKey
from fastlog.transport.channel import ConnectionLostError, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.client.metadata import ClusterImage
    from fastlog.client.producer.accumulator import Accumulator
    from fastlog.client.producer.background import Background
    from fastlog.client.producer.batch import Batch
    from fastlog.client.producer.links import BrokerLinks, LinkSlot
    from fastlog.client.producer.partition_queue import PartitionQueue
    from fastlog.client.producer.requests import Entry
    from fastlog.client.producer.settings import ProducerSettings
    from fastlog.client.wakeup import Wakeup
    from fastlog.protocol.messages.produce import ProduceResponse

logger = logging.getLogger("fastlog.producer")

#: one request carries at most this much, unless its first batch alone is larger: enough to spread a request's cost,
#: little enough that a broker with the default socket.request.max.bytes takes it
REQUEST_BYTES_AIM = 4 * 1024 * 1024
#: how often deliveries are looked through for those whose time is over
EXPIRY_INTERVAL_MS = LOOK_INTERVAL_MS
#: of thousands of partitions less often: the look takes one part of so many, but waits for no more than a second
EXPIRY_PAUSES, EXPIRY_INTERVAL_MS_MAX = 50.0, 1_000.0
#: a leader that is silent for so long may be one no more, and a broker that is stopped or cut off cannot say so: others
#: are asked then, and again at the interval. Replicas that lag behind are a reason to be silent too
SILENCE_MS, SILENCE_INTERVAL_MS = 1_500.0, 500.0
#: so long after a send on a caller's thread the next one is expected, and this thread goes on looking after deadlines
LIVELY_MS = 1_000.0


def thread_ms() -> float:
    """The processor time of the calling thread."""
    return time.thread_time() * 1000


class Sender(threading.Thread):
    """Runs until `stop`. While it is awake it has the turn: connections and the taking of batches are its alone. While
    it sleeps, `inline` may send on the thread of a caller.
    """

    def __init__(
        self,
        *,
        settings: ProducerSettings,
        accumulator: Accumulator,
        background: Background,
        links: BrokerLinks,
        wakeup: Wakeup,
        clock_ms: Callable[[], float],
    ) -> None:
        super().__init__(name="fastlog-producer", daemon=True)
        self._settings = settings
        self._accumulator = accumulator
        self._background = background
        self._links = links
        self._wakeup = wakeup
        self._clock_ms = clock_ms
        self._next_expiry_ms = self._next_question_ms = -math.inf
        self._outage = Outage(settings.linger_ms)
        self._stopping = False
        self._hold = Hold()
        self._turn = Lock()
        #: for callers of `send`, where batches do not linger; None otherwise
        self.inline: InlineSender | None = None
        # acks=0 ends a batch once it is sent, and callbacks are for this thread
        if settings.linger_ms == 0 and settings.acks != 0:
            self.inline = InlineSender(
                settings=settings,
                accumulator=accumulator,
                background=background,
                links=links,
                turn=self._turn,
                clock_ms=clock_ms,
            )
            accumulator.send_at_once = self.inline.send

    def stop(self) -> None:
        """Asks the thread to end; call the producer's wake-up after it."""
        self._stopping = True

    def run(self) -> None:
        """The thread's body."""
        try:
            while not self._stopping:
                self._step()
        except BaseException as error:
            logger.exception("the producer's sender thread ended; all deliveries fail")
            self._accumulator.refuse(
                FastlogError(f"the producer's sender thread ended: {error!r}; make a new producer")
            )
        finally:
            with self._accumulator.lock:
                # nobody sends inline any more
                self._accumulator.wake_up()
            with self._turn:
                self._links.close()
                self._fail_everything()
            with self._accumulator.lock:
                self._wakeup.close()

    def _step(self) -> None:
        with self._turn:
            until_ms = self._work_and_hold()
            channels = self._links.channels()
            with self._accumulator.lock:
                asleep = self._accumulator.fall_asleep(until_ms)
        if not asleep:
            return
        wait(channels, until_ms - self._clock_ms(), self._wakeup.descriptor)
        with self._accumulator.lock:
            signalled = self._accumulator.wake_up()
        if signalled:
            self._wakeup.acknowledge()

    def _work_and_hold(self) -> float:
        """Does what is to be done now, and returns when there will be more; says for how long open batches are held."""
        began_ms, used_ms = self._clock_ms(), thread_ms()
        until_ms = self._work(began_ms)
        now_ms = self._clock_ms()
        hold_ms = self._hold.worked(now_ms - began_ms, thread_ms() - used_ms)
        if hold_ms is not None and self._settings.linger_ms:
            with self._accumulator.lock:
                self._accumulator.hold_until_ms = now_ms + hold_ms
        return until_ms

    def _work(self, now_ms: float) -> float:
        """Does what is to be done now; returns when there will be more."""
        self._take_over(now_ms)
        self._receive(now_ms)
        if now_ms >= self._next_expiry_ms:
            self._leave_silent_leaders(now_ms)
            with self._accumulator.lock:
                unfinished = self._accumulator.unfinished()
            self._tell_of_outage(unfinished, now_ms)
            self._expire(unfinished, now_ms)
            took_ms = self._clock_ms() - now_ms
            self._next_expiry_ms = now_ms + max(
                EXPIRY_INTERVAL_MS, min(EXPIRY_PAUSES * took_ms, EXPIRY_INTERVAL_MS_MAX)
            )
        until_ms = min(self._dispatch(now_ms), self._links.next_deadline_ms())
        lively = self.inline is not None and now_ms < self.inline.sent_ms + LIVELY_MS
        if lively or self._accumulator.buffered_bytes or self._outage.stuck:
            until_ms = min(until_ms, self._next_expiry_ms)
        return until_ms

    def _take_over(self, now_ms: float) -> None:
        """Deals with what could not be sent on a caller's thread."""
        if self.inline is None or not self.inline.failed:
            return
        failed, self.inline.failed = self.inline.failed, []
        for slot, token, error in failed:
            if isinstance(error, Exception) and not isinstance(error, ConnectionLostError):
                self._refuse(token, error)
            else:
                # half a request may have left: that connection is of no more use
                self._lost(slot, str(error) or "the send was interrupted", now_ms, unanswerable=[token])

    # -- answers ---------------------------------------------------------------------------------------------------

    def _receive(self, now_ms: float) -> None:
        for slot in self._links.slots():
            try:
                for answer in slot.process(now_ms):
                    self._answered(answer.token, answer.message, slot, now_ms)
            except ConnectionLostError as error:
                self._lost(slot, str(error), now_ms)

    def _answered(
        self, token: ProduceToken, response: ProduceResponse | Written, slot: LinkSlot, now_ms: float
    ) -> None:
        if isinstance(response, Written):
            with self._accumulator.lock:
                told = acknowledge(self._accumulator, token.entries, response, now_ms)
            for index in told:
                self._decided(*token.entries[index], Outcome(0, *response.place(index)), slot, now_ms)
            return
        answers = token.answers(response)
        with self._accumulator.lock:
            others = self._accumulator.acknowledge(token.entries, answers, now_ms)
        for queue, batch in others:
            outcome = outcome_of(response, batch.topic, answers.get((batch.topic, batch.partition)))
            self._decided(queue, batch, outcome, slot, now_ms)

    def _decided(
        self, queue: PartitionQueue, batch: Batch, outcome: Outcome, slot: LinkSlot, now_ms: float
    ) -> None:
        """Does what the broker's word about a batch asks for."""
        elsewhere = bool(outcome.code) and self._is_sent_on(batch, outcome, slot)
        with self._accumulator.lock:
            verdict = queue.answered(batch, outcome.code, now_ms, elsewhere=elsewhere)
            if verdict.action is not Action.RETRY:
                queue.decided_ms = now_ms
            self._accumulator.changed(queue)
        if outcome.code and verdict.action is not Action.COMPLETE:
            self._note_problem(batch, outcome, slot)
        self._carry_out(verdict, queue, batch, outcome, slot)

    def _is_sent_on(self, batch: Batch, outcome: Outcome, slot: LinkSlot) -> bool:
        """Whether a retry goes to another broker: the one that the answer names, or that is known of by now."""
        hint = outcome.leader
        if hint is not None:
            # of a broker that is not known yet, a ZeroMQ endpoint is not enough
            self._background.adopt(hint if slot.is_tcp else replace(hint, node=None))
        return self._is_led_elsewhere(batch, slot)

    def _note_problem(self, batch: Batch, outcome: Outcome, slot: LinkSlot) -> None:
        error = error_for(outcome.code, outcome.message)
        batch.last_problem = f"{slot.address} answered {error}"
        if error.stale_metadata:
            self._background.request_refresh()

    def _carry_out(
        self, verdict: Verdict, queue: PartitionQueue, batch: Batch, outcome: Outcome, slot: LinkSlot
    ) -> None:
        if verdict.action is Action.RETRY:
            logger.debug("%r is sent again: %s", batch, batch.last_problem)
        elif verdict.action is Action.SPLIT:
            self._split(queue, batch)
        else:
            if verdict.action is Action.COMPLETE:
                batch.complete(outcome.base_offset, outcome.log_append_time_ms)
            elif verdict.action is Action.FAIL:
                error, single = requests.batch_error(batch, outcome, slot.address, verdict.reason)
                self._fail(batch, error, single)
            self._release(batch)

    def _split(self, queue: PartitionQueue, batch: Batch) -> None:
        logger.warning("%r is too large for the broker: it is halved and sent again", batch)
        limit = max(self._settings.max_request_bytes, 2 * batch.size_bytes)
        parts = requests.halve(batch, self._accumulator.lock, limit)
        with self._accumulator.lock:
            queue.replace(batch, parts)
            self._accumulator.changed(queue)
        batch.split_into(parts)

    def _lost(
        self, slot: LinkSlot, reason: str, now_ms: float, unanswerable: Sequence[ProduceToken] = ()
    ) -> None:
        """All that is unanswered on the connection goes back to its place in the queues, and what is `unanswerable`."""
        for token in [*slot.lost(reason, now_ms), *unanswerable]:
            for queue, batch in token.entries:
                if batch not in queue.in_flight:
                    continue
                batch.last_problem = reason
                with self._accumulator.lock:
                    verdict = queue.lost(batch, now_ms)
                    self._accumulator.changed(queue)
                if verdict.action is Action.DROP:
                    self._release(batch)
        self._background.request_refresh()

    def _leave_silent_leaders(self, now_ms: float) -> None:
        """Sends again to the next leader what the one before does not answer, instead of waiting for the time-out."""
        for slot in self._links.slots():
            if slot.silent_ms(now_ms) < SILENCE_MS:
                continue
            if self._has_successor(slot):
                self._lost(slot, f"{slot.address} is silent, and another broker leads now", now_ms)
            elif now_ms >= self._next_question_ms:
                self._next_question_ms = now_ms + SILENCE_INTERVAL_MS
                self._background.request_refresh()

    def _has_successor(self, slot: LinkSlot) -> bool:
        """Whether another broker leads a partition of which something is unanswered here."""
        return any(
            self._is_led_elsewhere(batch, slot) for token in slot.tokens() for _, batch in token.entries
        )

    def _is_led_elsewhere(self, batch: Batch, slot: LinkSlot) -> bool:
        """Whether another broker than that of `slot` leads the batch's partition by now, as far as is known."""
        leader = self._background.image.leader(batch.topic, batch.partition)
        return leader not in (slot.broker.node_id, NO_LEADER)

    # -- sending ---------------------------------------------------------------------------------------------------

    def _dispatch(self, now_ms: float) -> float:
        """Sends what is due and can be sent; returns when something else will be due."""
        while True:
            plan, due_ms = self._plan(now_ms)
            if not plan:
                return due_ms
            for slot, entries in plan:
                self._send(slot, ProduceToken(entries), now_ms)

    def _plan(self, now_ms: float) -> tuple[list[tuple[LinkSlot, list[Entry]]], float]:
        image = self._background.image
        accumulator = self._accumulator
        # a broker that is silent makes no room for the batches of others
        awaits_answers = any(
            slot.in_flight and slot.silent_ms(now_ms) < LONGEST_BLOCKED_MS for slot in self._links.slots()
        )
        with accumulator.lock:
            accumulator.awaits_answers = awaits_answers
            plan, due_ms, opened = accumulator.plan(
                self, image, now_ms, REQUEST_BYTES_AIM, self._settings.max_in_flight
            )
        self._hold.took(opened)
        return plan, due_ms

    def _slot_of(
        self, image: ClusterImage, leader: int, now_ms: float
    ) -> tuple[LinkSlot | None, float | None]:
        """For Accumulator.plan: the slot of a leader and, where it takes nothing now, when it may."""
        slot = self._links.slot_of(image, leader)
        if slot is None or slot.usable(now_ms):
            return slot, None
        return slot, slot.retry_at_ms

    def _has_no_leader(self, queue: PartitionQueue, image: ClusterImage) -> None:
        """For Accumulator.plan."""
        if image.knows(queue.topic, queue.partition):
            queue.waiting[0].last_problem = "no broker leads the partition now"
        self._background.request_refresh(queue.topic)

    def _may_send_as(self, queue: PartitionQueue, link: object, now_ms: float) -> bool:
        """For Accumulator.plan: whether the next batch may be sent once the queue has the producer id that it lacks."""
        if not queue.wants_producer_id or queue.in_flight:
            return False
        identity = self._background.identity_after(queue.producer_id)
        if identity is None:
            return False
        queue.adopt(*identity)
        return queue.may_send(now_ms, link)

    def _send(self, slot: LinkSlot, token: ProduceToken, now_ms: float) -> None:
        for entry, error in token.seal(self._settings.compression):
            self._not_sealed(*entry, error)
        if not token.entries:
            return
        settings = self._settings
        try:
            spoken = slot.version(ApiKey.PRODUCE)
            with self._accumulator.lock:
                ids = self._accumulator.topic_ids(token.entries, self._background.image)
            request, version = token.request(settings.acks, settings.request_timeout_ms, spoken, ids)
            slot.send(request, version, token, now_ms, answered=settings.acks != 0)
        except ConnectionLostError as error:
            self._lost(slot, str(error), now_ms, unanswerable=[token] if settings.acks == 0 else [])
            return
        except FastlogError as error:
            self._refuse(token, error)
            return
        if settings.acks == 0:
            for queue, batch in token.entries:
                with self._accumulator.lock:
                    queue.answered(batch, 0, now_ms)
                    queue.decided_ms = now_ms
                batch.complete(-1, -1)
                self._release(batch)

    def _refuse(self, token: ProduceToken, error: Exception) -> None:
        """Fails batches that were taken but cannot be sent at all."""
        for queue, batch in token.entries:
            with self._accumulator.lock:
                queue.failed_to_send(batch)
                self._accumulator.changed(queue)
            self._fail(batch, error)
            self._release(batch)

    def _not_sealed(self, queue: PartitionQueue, batch: Batch, error: Exception) -> None:
        logger.error("%r could not be compressed", batch, exc_info=error)
        with self._accumulator.lock:
            queue.failed_to_send(batch)
            self._accumulator.changed(queue)
        self._fail(batch, error)
        self._release(batch)

    # -- the end of batches ----------------------------------------------------------------------------------------

    def _fail(self, batch: Batch, error: BaseException, single: Any = None) -> None:
        logger.error("a delivery failed: %s", error)
        batch.fail(error, single)

    def _release(self, batch: Batch) -> None:
        batch.sealed = None
        with self._accumulator.lock:
            self._accumulator.release([batch])

    def _expire(self, unfinished: Sequence[PartitionQueue], now_ms: float) -> None:
        oldest_ms = now_ms - self._settings.delivery_timeout_ms
        expired: list[Batch] = []
        dropped: list[Batch] = []
        with self._accumulator.lock:
            for queue in unfinished:
                if queue.oldest().created_ms > oldest_ms:
                    continue
                problem = ""
                for batch in [*queue.in_flight, *queue.waiting]:
                    # one that waited for others shares their problem
                    problem = batch.last_problem = batch.last_problem or problem
                    if batch.created_ms > oldest_ms or batch.abandoned:
                        continue
                    queue.expired(batch)
                    expired.append(batch)
                    if not batch.abandoned:
                        dropped.append(batch)
                        self._accumulator.changed(queue)
        for batch in expired:
            self._fail(batch, self._delivery_timeout(batch))
        for batch in dropped:
            self._release(batch)

    def _tell_of_outage(self, unfinished: Sequence[PartitionQueue], now_ms: float) -> None:
        with self._accumulator.lock:
            change = self._outage.step(unfinished, now_ms)
            oldest = [(queue.in_flight or queue.waiting)[0] for queue in self._outage.stuck]
        seconds = (now_ms - self._outage.since_ms) / 1000
        if change is Change.BEGAN:
            first = oldest[0]
            logger.warning(
                "no record for %s-%d%s was acknowledged for %.0f s: %s; records are sent again until their "
                "delivery_timeout_ms=%.0f is over",
                first.topic,
                first.partition,
                f" and {len(oldest) - 1} more partition(s)" if oldest[1:] else "",
                seconds,
                first.last_problem or self._background.last_problem or "no answer came",
                self._settings.delivery_timeout_ms,
            )
        elif change is Change.OVER:
            logger.info("records are acknowledged again, after %.0f s", seconds)

    def _delivery_timeout(self, batch: Batch) -> DeliveryTimeoutError:
        fate = (
            "they may or may not be in the log"
            if batch.uncertain or batch.abandoned
            else "they are not in the log"
        )
        return DeliveryTimeoutError(
            f"{batch.count} record(s) for {batch.topic}-{batch.partition} were not acknowledged within "
            f"delivery_timeout_ms={self._settings.delivery_timeout_ms:.0f} ({batch.attempts} attempts; {fate}): "
            f"{batch.last_problem or self._background.last_problem or 'the broker was slower than that'}"
        )

    def _fail_everything(self) -> None:
        with self._accumulator.lock:
            reason = self._accumulator.closed or FastlogError("the producer was closed")
            left = [
                batch
                for queue in self._accumulator.unfinished()
                for batch in [*queue.in_flight, *queue.waiting]
            ]
        for batch in left:
            if not batch.abandoned:
                self._fail(batch, reason)
        with self._accumulator.lock:
            self._accumulator.release(left)
