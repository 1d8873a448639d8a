"""Where the jars of Apache ZooKeeper come from: Maven Central, once for each user, or Debian's package."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fastlog.errors import FastlogError

# the one place that names the version that is fetched; whatever runs must be 3.8 or newer
ZOOKEEPER_VERSION = "3.9.5"
CACHE = Path.home() / ".cache/fastlog-tests"
FETCH_SECONDS = 300.0
# Debian's package: names below /usr/share/java, without versions
DEBIAN = Path("/usr/share/java")
DEBIAN_JARS = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "netty-all",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "metrics-core",
    "snappy-java",
    "commons-io",
)
# metrics-core and snappy-java are what ZooKeeper leaves to its distribution; slf4j-simple writes its log; netty's
# native TLS (8 MB) is for listeners that are never opened here
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fastlog.testing</groupId><artifactId>zookeeper</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>{ZOOKEEPER_VERSION}</version>
      <exclusions>
        <exclusion><groupId>ch.qos.logback</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>io.netty</groupId><artifactId>netty-tcnative-boringssl-static</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>2.0.13</version>
    </dependency>
    <dependency>
      <groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version>
    </dependency>
    <dependency>
      <groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version>
    </dependency>
  </dependencies>
</project>
"""


class NoZooKeeperError(FastlogError):
    """ZooKeeper cannot be run on this machine; the message says what to install."""


def class_path() -> str:
    """The class path that runs ZooKeeper.

    The first use fetches it with Maven into `~/.cache/fastlog-tests`, one process at a time, which takes seconds;
    where there is no Maven, Debian's package serves. Raises NoZooKeeperError where neither is there.
    """
    if shutil.which("java") is None:
        raise NoZooKeeperError("ZooKeeper needs Java: apt-get install default-jre-headless")
    folder = CACHE / f"zookeeper-{ZOOKEEPER_VERSION}-{hashlib.sha256(POM.encode()).hexdigest()[:8]}"
    if folder.exists():
        return f"{folder}/*"
    if shutil.which("mvn") is not None:
        _fetch(folder)
        return f"{folder}/*"
    found = [str(DEBIAN / f"{name}.jar") for name in DEBIAN_JARS if (DEBIAN / f"{name}.jar").exists()]
    if str(DEBIAN / "zookeeper.jar") in found:
        return ":".join(found)
    raise NoZooKeeperError(
        f"there is neither Maven, to fetch ZooKeeper {ZOOKEEPER_VERSION}, nor Debian's ZooKeeper: "
        "apt-get install maven, or apt-get install zookeeper"
    )


def _fetch(folder: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "zookeeper.lock").open("w") as lock, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        fresh = CACHE / f"{folder.name}.{os.getpid()}"
        pom = Path(scratch, "pom.xml")
        pom.write_text(POM)
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=FETCH_SECONDS,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            shutil.rmtree(fresh, ignore_errors=True)
            raise NoZooKeeperError(
                f"fetching ZooKeeper {ZOOKEEPER_VERSION} by Maven took longer than {FETCH_SECONDS:.0f} s: is Maven "
                "Central, or the mirror that ~/.m2/settings.xml names, reached from here?"
            ) from None
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise NoZooKeeperError(
                f"fetching ZooKeeper {ZOOKEEPER_VERSION} by Maven failed:\n{done.stdout}{done.stderr}"
            )
        fresh.rename(folder)
