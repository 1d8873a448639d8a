"""Builds both compiled modules into one wheel: the Rust engine (by maturin) and the Cython record codec.

The environment variable FASTLOG_PROFILE names the Cargo profile: `quick` (the default of in-place and editable
builds: optimised, incremental) or `release` (the default of wheels: thin LTO, one codegen unit).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def maturin() -> str:
    """The maturin program; `python -m maturin` does not find it inside pip's isolated build environment."""
    for file in importlib.metadata.files("maturin") or ():
        if file.stem == "maturin" and file.parent.name in ("bin", "Scripts"):
            return str(Path(str(file.locate())).resolve())
    return shutil.which("maturin") or "maturin"


def require(tool: str, hint: str) -> None:
    """Ends the build with one clear line where `tool` is missing."""
    if shutil.which(tool) is None:
        raise SystemExit(f"fastlog: building needs {tool}, which is not on PATH. {hint}")


class RustExtension(Extension):
    """A Python module made from a Cargo manifest."""

    def __init__(self, name: str, manifest: str) -> None:
        super().__init__(name, sources=[])
        self.manifest = manifest


class BuildExt(build_ext):
    """build_ext that hands Rust extensions to maturin."""

    def run(self) -> None:
        """Builds all extensions."""
        # setuptools resets self.inplace while it builds, so remember it here
        self.develop = bool(self.inplace or getattr(self, "editable_mode", False))
        require("cargo", "Install Rust 1.89 or newer (https://rustup.rs).")
        require("cc", "Install a C compiler (Debian: apt-get install build-essential).")
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Builds one extension and puts the module where setuptools expects it."""
        if not isinstance(ext, RustExtension):
            super().build_extension(ext)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        fresh.write_bytes(self.compile_rust(ext))
        fresh.chmod(0o755)
        fresh.replace(target)

    def compile_rust(self, ext: RustExtension) -> bytes:
        """The bytes of the shared object that maturin builds."""
        profile = os.environ.get("FASTLOG_PROFILE", "quick" if self.develop else "release")
        # the base interpreter, not a throw-away environment's: Cargo's cache stays warm
        python = getattr(sys, "_base_executable", sys.executable)
        env = {"CARGO_TARGET_DIR": str(ROOT / "rust" / "target"), **os.environ}
        with tempfile.TemporaryDirectory() as out:
            command = [maturin(), "build", "-m", ext.manifest, "--profile", profile, "-i", python]
            # what only tests use is in no wheel and in nothing that is measured
            command += ["--features", "simulation"] if self.develop and profile == "quick" else []
            subprocess.check_call(
                [*command, "--auditwheel", "skip", "--locked", "-o", out], cwd=ROOT, env=env
            )
            (wheel,) = Path(out).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
                return archive.read(member)


def cython_extensions() -> list[Extension]:
    """The Cython modules; bounds are checked unless a function that checked its length says otherwise."""
    from Cython.Build import cythonize

    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "core_ext").glob("*.pyx"))
    modules = [
        Extension(f"fastlog.native.{Path(source).stem}", [source], extra_compile_args=["-O3"])
        for source in sources
    ]
    directives = {"language_level": "3", "freethreading_compatible": True}
    # core_ext: where the .pxd files beside the modules find wire.pxd
    return cythonize(
        modules, build_dir="build/cython", include_path=[".", "core_ext"], compiler_directives=directives
    )


setup(
    ext_modules=[*cython_extensions(), RustExtension("fastlog.native._engine", "rust/native/Cargo.toml")],
    cmdclass={"build_ext": BuildExt},
)
