"""`fastlog serve` in which one method raises what nobody foresaw, as a fault of ours would.

python failing_thread.py MODULE CLASS METHOD WHEN -m fastlog.cli serve …: WHEN is a file, from whose being there on the
method raises, or - for at once. Where an interpreter stands between, as a prefix has it, that is passed over.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

# the stop that waits for what failed is not waited for as long
STOP_SECONDS = 3.0


def main() -> None:
    module, kind, method, when, *command = sys.argv[1:]
    arguments = command[command.index("fastlog.cli") + 1 :]
    owner = getattr(importlib.import_module(module), kind)
    real = getattr(owner, method)

    def failing(*given: Any, **named: Any) -> Any:
        if when == "-" or Path(when).exists():
            raise ZeroDivisionError("planted")
        return real(*given, **named)

    setattr(owner, method, failing)
    from fastlog.cli import thread_failures
    from fastlog.cli.group import run

    thread_failures.STOP_SECONDS = STOP_SECONDS
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
