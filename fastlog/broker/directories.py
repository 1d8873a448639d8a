"""The data directories of a broker, before they are taken into use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_directories(named: Sequence[Path]) -> list[str]:
    """Makes those that are absent, and answers their paths without links, in that order.

    Raises FastlogError for one that is named twice, or where the first cannot be made; of the others the engine says
    what is wrong with their disks.
    """
    found: dict[str, Path] = {}
    for directory in named:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path = str(directory.resolve(strict=True))
        except OSError as error:
            if not found:
                raise FastlogError(
                    f"cannot make the data directory {directory}: {error.strerror}; name another (log.dirs)"
                ) from error
            path = str(directory.absolute())
        if path in found:
            raise FastlogError(
                f"the data directories {found[path]} and {directory} are the same, {path}: name it once (log.dirs)"
            )
        found[path] = directory
    return list(found)
