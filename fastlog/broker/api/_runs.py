"""Which of the requests that came together may be done as one: those that do not meet each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

#: topics of a run: who waits with them waits for all, and what they take is held in memory
TOPICS_MAX = 10_000


class Part(Protocol):
    """What one request asks for."""

    def names(self) -> Collection[str]:
        """What it changes."""
        ...

    def is_alone(self) -> bool:
        """Whether it shares its run with no other."""
        ...


Asked = TypeVar("Asked", bound=Part)


def runs(parts: Sequence[Asked]) -> Iterator[list[Asked]]:
    """The parts that ask for something, in their order, in runs of such as name nothing that another one of it names.

    What is named again sees what became of it the first time.
    """
    run: list[Asked] = []
    taken: set[str] = set()
    for part in parts:
        names = part.names()
        if run and (
            part.is_alone()
            or run[-1].is_alone()
            or not taken.isdisjoint(names)
            or len(taken) + len(names) > TOPICS_MAX
        ):
            yield run
            run, taken = [], set()
        if names:
            run.append(part)
            taken.update(names)
    if run:
        yield run
