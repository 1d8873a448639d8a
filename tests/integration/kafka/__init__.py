"""Apache Kafka itself, the judge: its jars from Maven Central, its tools, and a broker of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

# the one place that names the version of Kafka the tests run against
KAFKA_VERSION = "4.3.1"
CACHE = Path.home() / ".cache/fastlog-tests"
POM = Path(__file__).with_name("pom.xml")
TOOL_SECONDS = 120.0


def jars() -> Path:
    """The folder with Kafka's jars; fetched by Maven the first time, one process at a time."""
    wanted = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    folder = CACHE / f"kafka-{KAFKA_VERSION}-{wanted}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            fresh = CACHE / f"{folder.name}.{os.getpid()}"
            command = ["mvn", "-q", "-B", "-f", str(POM), f"-Dkafka.version={KAFKA_VERSION}"]
            command += [
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={fresh}",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                shutil.rmtree(fresh, ignore_errors=True)
                raise AssertionError(
                    f"fetching Kafka {KAFKA_VERSION} by Maven failed:\n{done.stdout}{done.stderr}"
                )
            fresh.rename(folder)
    return folder


def java(main_class: str, *arguments: str, heap: str = "256m") -> list[str]:
    """The command that runs a class of Kafka's jars with a quick start and little memory."""
    options = [f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    return ["java", *options, "-cp", f"{jars()}/*", main_class, *arguments]


def tool(main_class: str, *arguments: str, stdin: str = "") -> str:
    """Runs one of Kafka's tools to its end; its standard output."""
    command = java(main_class, *arguments)
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
    )
    assert done.returncode == 0, f"{main_class} {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def dump_log(*files: Path, options: tuple[str, ...] = ("--deep-iteration",)) -> str:
    """What DumpLogSegments prints about `files`."""
    names = ",".join(str(file) for file in files)
    return tool("org.apache.kafka.tools.DumpLogSegments", "--files", names, *options)
