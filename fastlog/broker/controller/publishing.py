"""The controller's notices: what changed, how far that goes, and all of it for who missed some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.peers.messages import Beacon, Delta, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.controller.ports import Replicas
    from fastlog.broker.controller.settings_book import SettingsBook
    from fastlog.broker.peers.messages import Settings
    from fastlog.broker.peers.ports import Notices
    from fastlog.state.controller.effects import Image, Publish


class Publishing:
    """The notices of one term. The sequence is its own, since settings are told with it too."""

    def __init__(
        self,
        *,
        controller_id: int,
        controller_epoch: int,
        notices: Notices,
        replicas: Replicas,
        image: Callable[[], Image],
        book: SettingsBook,
        unreadable: tuple[str, ...] = (),
    ) -> None:
        """`image` answers what is written and published of the controller's, `unreadable` are topics that it lacks."""
        self._id = controller_id
        self._epoch = controller_epoch
        self._notices = notices
        self._replicas = replicas
        self._image = image
        self._book = book
        self._unreadable = unreadable
        self._sequence = 0
        self._snapshot: Snapshot | None = None

    def publish(self, effect: Publish) -> None:
        """The Delta of what the controller published."""
        for topic_id in effect.deleted:
            self._book.deleted(topic_id)
        self._sequence += 1
        self._tell(
            Delta(
                controller_id=self._id,
                controller_epoch=self._epoch,
                sequence=self._sequence,
                topics=effect.topics,
                partitions=effect.partitions,
                deleted=effect.deleted,
                brokers=effect.brokers,
                settings=tuple(self._book.created(it) for it in effect.topics),
            )
        )

    def publish_settings(self, settings: Settings) -> None:
        """The Delta of changed settings."""
        self._sequence += 1
        self._tell(
            Delta(
                controller_id=self._id,
                controller_epoch=self._epoch,
                sequence=self._sequence,
                settings=(settings,),
            )
        )

    def _tell(self, delta: Delta) -> None:
        self._notices.publish(delta)
        # the first of an epoch would only have this broker ask for it
        self._replicas.told(self.snapshot() if delta.sequence == 1 else delta)

    def beacon(self) -> None:
        """How far the deltas go."""
        beacon = Beacon(controller_id=self._id, controller_epoch=self._epoch, sequence=self._sequence)
        self._notices.publish(beacon)
        self._replicas.told(beacon)

    def snapshot(self) -> Snapshot:
        """What all deltas so far add up to. Made once for all that ask between two deltas."""
        known = self._snapshot
        if known is None or known.sequence != self._sequence:
            image = self._image()
            known = self._snapshot = Snapshot(
                controller_id=self._id,
                controller_epoch=self._epoch,
                sequence=self._sequence,
                brokers=image.brokers,
                topics=image.topics,
                settings=self._book.all(),
                unreadable=self._unreadable,
            )
        return known
