"""The topics of a cluster's image by name: a mapping that is never changed, and cheap to make another one of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

Image = TypeVar("Image")
Default = TypeVar("Default")


class TopicMap(Mapping[str, Image], Generic[Image]):
    """What changed last lies apart, and is copied with each change; the rest, which may be large, is shared.

    With n topics a change of one costs as much as a copy of some sqrt(n), where a copy of all would make the first use
    of ten thousand topics, one after the other, a hundred million steps.
    """

    __slots__ = ("_recent", "_rest")

    def __init__(self, topics: Mapping[str, Image] | None = None) -> None:
        self._rest: dict[str, Image] = dict(topics or {})
        self._recent: dict[str, Image] = {}

    def __repr__(self) -> str:
        return f"TopicMap({dict(self)!r})"

    def __getitem__(self, name: str) -> Image:
        """The topic `name`, or KeyError."""
        found = self._recent.get(name)
        return self._rest[name] if found is None else found

    @overload
    def get(self, name: str, /) -> Image | None: ...
    @overload
    def get(self, name: str, /, default: Image | Default) -> Image | Default: ...
    def get(self, name: str, /, default: Image | Default | None = None) -> Image | Default | None:
        """The topic `name`, or `default`. Asked once for each batch that is sent, hence not that of Mapping."""
        found = self._recent.get(name)
        return self._rest.get(name, default) if found is None else found

    def __contains__(self, name: object) -> bool:
        """Whether there is a topic `name`."""
        return name in self._recent or name in self._rest

    def __iter__(self) -> Iterator[str]:
        """The names, in no order."""
        yield from self._rest
        yield from (name for name in self._recent if name not in self._rest)

    def __len__(self) -> int:
        """How many topics there are."""
        return len(self._rest) + sum(name not in self._rest for name in self._recent)

    def with_topics(self, topics: Mapping[str, Image]) -> TopicMap[Image]:
        """One that has `topics` too, in the place of those of the same names."""
        changed = TopicMap[Image]()
        recent = {**self._recent, **topics}
        if len(recent) ** 2 > len(self._rest):
            changed._rest = {**self._rest, **recent}
        else:
            changed._rest, changed._recent = self._rest, recent
        return changed
