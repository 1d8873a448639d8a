"""Writes all code that follows from schema/messages.json and schema/errors.json.

Run it after a table changed; with --check it changes nothing and fails where a file on disk is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

import codec_model
import codec_rust_keys
import codec_rust_messages

ROOT = Path(__file__).resolve().parents[1]
RUST = ROOT / "rust/protocol/src"


def texts() -> dict[Path, str]:
    """Path and text of every generated file."""
    apis = codec_model.load()
    rust = codec_rust_keys.files(apis) | codec_rust_messages.files(apis)
    return {RUST / name: text for name, text in rust.items()}


def main() -> int:
    """Writes the files that changed, or names them with --check; the exit status is 1 when one is stale."""
    stale = [path for path, text in texts().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run python tools/generate_codec.py", file=sys.stderr)
        return int(bool(stale))
    written = texts()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written[path])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
