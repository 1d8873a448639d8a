#!/bin/sh
# Prints the Python to build with. Where a tool is missing or too old it says so in one line and exits 1.
# Honours PYTHON=/path/to/python.
fail() { echo "fastlog: $1" >&2; exit 1; }

good_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
    if good_python "$candidate"; then python=$candidate; break; fi
done
[ -n "$python" ] || fail "building needs Python 3.11 or newer with venv${PYTHON:+ (PYTHON=$PYTHON is not)}. Install it (Debian: apt-get install python3 python3-venv python3-dev)."

command -v cc >/dev/null 2>&1 ||
    fail "building needs a C compiler, and there is no cc on PATH. Install one (Debian: apt-get install build-essential)."

rust="building needs Rust 1.89 or newer with Cargo"
how="Install it from https://rustup.rs."
command -v cargo >/dev/null 2>&1 || fail "$rust, and there is no cargo on PATH. $how"
version=$(rustc --version 2>/dev/null) || fail "$rust, and rustc does not run. $how"
number=${version#rustc }
major=${number%%.*}
rest=${number#*.}
minor=${rest%%.*}
if [ "$major" -lt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -lt 89 ]; }; then
    fail "$rust, and this is $version. Run rustup update."
fi

echo "$python"
