"""Settings that are changed: written, taken into what elections ask, and told to all brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.controller import store_calls
from fastlog.broker.controller.replies import may_be_made
from fastlog.broker.peers.messages import Answer
from fastlog.errors import UnknownTopicOrPartitionError
from fastlog.state.controller.events import FactsChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.broker.controller.publishing import Publishing
    from fastlog.broker.controller.settings_book import SettingsBook
    from fastlog.broker.controller.store_calls import ConfigsWritten
    from fastlog.broker.controller.term import Term
    from fastlog.broker.peers.messages import SetConfigs
    from fastlog.ports import ConfigResource, StoredConfigs
    from fastlog.state.controller.events import Event

    Answered = Callable[[Answer], None]


class ConfigWrites:
    """The settings' changes of one term. All calls come from the schedule's thread."""

    def __init__(
        self, term: Term, book: SettingsBook, publishing: Publishing, step: Callable[[Event], None]
    ) -> None:
        self._term = term
        self._book = book
        self._publishing = publishing
        self._step = step
        self._uncertain: set[ConfigResource] = set()

    def set(self, command: SetConfigs, answered: Answered) -> None:
        """Replaces a resource's settings; answered with Settings as they are then.

        A version that is another by now is answered with INVALID_UPDATE_VERSION, and with what there is.
        """
        resource = command.resource
        if not self._book.knows(resource):
            error = UnknownTopicOrPartitionError(f"topic {resource.name!r} does not exist")
            answered(Answer(code=error.code, message=error.message))
            return

        def ended(outcome: ConfigsWritten) -> None:
            if outcome.error is None:
                self._are(resource, command.values, outcome.version)
                answered(Answer(body=self._book.settings(resource)))
                return
            known = self._book.settings(resource)
            # what is stored may not be what is known here
            doubtful = outcome.is_uncertain or known.version == command.expected_version
            if doubtful:
                self._uncertain.add(resource)
            body = None if doubtful else known
            answered(Answer(code=outcome.error.code, message=outcome.error.message, body=body))

        self._term.call(
            lambda: store_calls.write_configs(self._term.store, command),
            ended,
            over=lambda: answered(may_be_made()),
        )

    def _are(self, resource: ConfigResource, values: Mapping[str, str], version: int) -> None:
        changed = self._book.put(resource, values, version)
        if changed is None:
            return
        for topic_id in self._book.concerned(resource):
            self._step(FactsChanged(topic_id=topic_id, facts=self._book.facts_of(topic_id)))
        self._publishing.publish_settings(changed)

    def tick(self) -> None:
        """Reads again what may have been changed."""
        if not self._uncertain:
            return
        resources, self._uncertain = self._uncertain, set()

        def ended(found: Mapping[ConfigResource, StoredConfigs] | None) -> None:
            if found is None:
                self._uncertain |= resources
                return
            for resource in sorted(resources, key=lambda it: (it.kind, it.name)):
                # a topic that is gone took its settings with it
                if resource in found and self._book.knows(resource):
                    self._are(resource, found[resource].values, found[resource].version)

        self._term.call(lambda: store_calls.read_configs(self._term.store), ended)
