"""Whether what a data directory holds may lack what was acknowledged, and the cluster does not know that yet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "unclean"


class UncleanMark:
    """A file in the data directory, which this process has locked.

    A clean stop alone does not make a later start clean: between an unclean one and the moment in which a controller
    has taken note of it, others may count on a log that is not whole.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    @property
    def is_set(self) -> bool:
        """Whether an unclean start was not taken note of yet."""
        return self._path.exists()

    def set(self) -> None:
        """Durably; raises OSError."""
        if not self.is_set:
            self._path.touch()
            self._sync()

    def clear(self) -> None:
        """Durably; raises OSError."""
        self._path.unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        handle = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
