"""The command line: `fastlog COMMAND …`.

Each command's module is imported when the command runs, so that `fastlog --help` and a broker's start stay quick.
Exit status: 0 done, 1 refused or failed, 2 used wrongly, 3 no broker reached.
"""

from __future__ import annotations

from fastlog.cli.group import fastlog, main

__all__ = ["fastlog", "main"]
