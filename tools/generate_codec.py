"""Writes all code that follows from schema/messages.json and schema/errors.json.

Run it after a table changed; with --check it changes nothing and fails where a file on disk is stale.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import codec_docs
import codec_errors
import codec_model
import codec_python
import codec_rust_keys
import codec_rust_messages
import codec_rust_schema
from codec_model import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# folders in which every file is generated, so that one without a source is a leftover
OWN_FOLDERS = ("rust/protocol/src/schema/apis", "fastlog/protocol/messages")
BY_HAND = ("fastlog/protocol/messages/__init__.py",)


def texts() -> dict[Path, str]:
    """Path and text of every generated file."""
    apis = codec_model.load()
    rust = codec_rust_keys.files(apis) | codec_rust_messages.files(apis) | codec_rust_schema.files(apis)
    files = {f"rust/protocol/src/{name}": text for name, text in rust.items()}
    files |= {f"fastlog/protocol/{name}": text for name, text in codec_python.files(apis).items()}
    return {
        ROOT / name: text for name, text in (files | codec_errors.files() | codec_docs.files(apis)).items()
    }


def leftovers(written: dict[Path, str]) -> list[Path]:
    """Generated files whose API left the table."""
    found = (path for folder in OWN_FOLDERS for path in (ROOT / folder).glob("*.*"))
    return [path for path in found if path not in written and str(path.relative_to(ROOT)) not in BY_HAND]


def main() -> int:
    """Writes the files that changed, or names them with --check; the exit status is 1 when one is stale."""
    written = texts()
    stale = [path for path, text in written.items() if not path.exists() or path.read_text() != text]
    old = leftovers(written)
    if "--check" in sys.argv:
        for path in stale + old:
            print(f"{path.relative_to(ROOT)} is stale: run python tools/generate_codec.py", file=sys.stderr)
        return int(bool(stale or old))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written[path])
    for path in old:
        path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
