"""Rules that no linter of the gate knows: sizes, leftovers, and who imports compiled modules.

A file has at most 600 lines and a function at most 70 (Python here; clippy counts Rust's); a stub has at most 800: it
is as long as its compiled module has names. Nothing is left "for later" in the tree. Generated files are exempt from
the sizes: they say "do not edit" in their first lines.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES_MAX = 600
STUB_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
HEAD_LINES = 5
# import-linter reads sources, so it sees no import of a compiled module. What only the type checker reads is free
NATIVE = "fastlog.native"
NATIVE_IMPORTERS = (
    "fastlog/backup/",
    "fastlog/bench/",
    "fastlog/broker/broker.py",
    "fastlog/broker/groups/offsets_log.py",
    "fastlog/cli/log.py",
    "fastlog/cli/serve.py",
    "fastlog/client/",
    "fastlog/native/",
    "fastlog/protocol/codec.py",
)
CODE = {".py", ".pyi", ".pyx", ".pxd", ".rs", ".sh", ".toml"}
TEXT = CODE | {".md", ".yml", ".yaml", ""}
# spelled so that this file does not find itself
LEFTOVER = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b|\b(to" + r"do|unimpl" + r"emented)!\("
)


def tracked() -> list[Path]:
    """Every file git knows or would add, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [Path(name) for name in sorted(set(names)) if name and (ROOT / name).is_file()]


def is_generated(text: str) -> bool:
    """Whether the first lines say that a program wrote the file."""
    return "do not edit" in "\n".join(text.splitlines()[:HEAD_LINES]).lower()


def python_complaints(path: Path, text: str, *, generated: bool) -> list[str]:
    """Long functions of one Python file."""
    found = []
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not generated:
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                found.append(
                    f"{path}:{node.lineno}: {node.name} has {lines} lines, over {FUNCTION_LINES_MAX}"
                )
    return found


class Imports(ast.NodeVisitor):
    """The modules that a file imports when it runs, anywhere in it: (line, name) each."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def visit_If(self, node: ast.If) -> None:
        """Passes over what stands under `if TYPE_CHECKING`."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """`import a.b`."""
        self.found += [(node.lineno, alias.name) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """`from a import b`, where b may be a module."""
        self.found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]


def layer_complaints(path: Path, text: str) -> list[str]:
    """Imports of compiled modules where they are not allowed."""
    name = path.as_posix()
    if not name.startswith("fastlog/") or name.startswith(NATIVE_IMPORTERS):
        return []
    imports = Imports()
    imports.visit(ast.parse(text, name))
    return [
        f"{path}:{line}: {module} is compiled; only {', '.join(NATIVE_IMPORTERS)} may import it"
        for line, module in imports.found
        if module.startswith(NATIVE)
    ]


def complaints(path: Path) -> list[str]:
    """All that is wrong with one file."""
    if path.suffix not in TEXT or path.name in {"Cargo.lock", "LICENSE"}:
        return []
    text = (ROOT / path).read_text(errors="replace")
    generated = is_generated(text)
    found = []
    lines = text.count("\n")
    most = STUB_LINES_MAX if path.suffix == ".pyi" else FILE_LINES_MAX
    if path.suffix in CODE and not generated and lines > most:
        found.append(f"{path}: {lines} lines, over {most}")
    for number, line in enumerate(text.splitlines(), 1):
        hit = LEFTOVER.search(line)
        if hit:
            found.append(f"{path}:{number}: {hit.group()} is left")
    if path.suffix == ".py":
        found += python_complaints(path, text, generated=generated) + layer_complaints(path, text)
    return found


def main() -> int:
    """Prints every complaint; the exit status is 1 when there is one."""
    found = [line for path in tracked() for line in complaints(path)]
    for line in found:
        print(f"tidy: {line}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
