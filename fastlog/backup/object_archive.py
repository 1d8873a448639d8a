"""Backups in an object store: S3 and what speaks as it does, Google's, Azure's, through the obstore library.

Credentials, regions and endpoints are the library's business: it reads the variables that the stores' own tools read
(`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` …). An object is there whole or not at all, which is what stores promise; what
was put is looked at afterwards all the same, and what is got is compared by whoever asked for it.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from fastlog.errors import BackupError, UnreadableBackupError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from obstore.store import ObjectStore

CONNECT_TIMEOUT = timedelta(seconds=10)
#: nothing came or went for so long
READ_TIMEOUT = timedelta(seconds=30)
#: of one request, which moves 5 MiB at most when it puts and a chunk of a backup when it gets
REQUEST_TIMEOUT = timedelta(minutes=10)
#: how long one request is tried again where the store does not answer, or says that it is not able to
PATIENCE = timedelta(minutes=1)
#: the library counts tries too: as many pauses as the first one, which is the shortest, take all of the patience
RETRIES_MAX = 600
#: parts of the patience, so that a shorter one goes as the real one does: 100 ms and 10 s
FIRST_PAUSE = 1 / RETRIES_MAX
LONGEST_PAUSE = 1 / 6
#: a pause is anything from the first one to so many times the last one: with 2 they would not become longer
GROWTH = 3
#: in what the library says of requests other than those for one object
DENIED = re.compile(r"\b(401 Unauthorized|403 Forbidden)\b")
#: said of conditions that a store does not know
UNSUPPORTED = re.compile(r"\b501 Not Implemented\b")
#: how the library was told to try, in what it says
CONFIGURED = re.compile(r", max_retries: \d+, retry_timeout: \S+ +- ")
#: what the system said, in the dump of the library's structures
CAUSE = re.compile(r'^ +(?:message|error): "([^"]+)",$', re.MULTILINE)
#: taken from a store at a time
READ_BYTES = 1 << 20
INSTALL = "pip install 'fastlog[s3]'"


class ObjectArchive:
    """An archive below the URL of a store: `s3://bucket/prefix`, `gs://…`, `az://…`. The bucket must be there."""

    def __init__(
        self, url: str, *, patience: timedelta = PATIENCE, read_timeout: timedelta = READ_TIMEOUT
    ) -> None:
        """Connects to nothing yet. Raises BackupError where the library is missing, or does not know such stores."""
        try:
            import obstore
            from obstore import exceptions, store
        except ImportError as error:
            raise BackupError(f"backups to {url} need a library: {INSTALL}") from error
        self._url = url.rstrip("/")
        self._obstore = obstore
        self._denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        # the library raises Python's own errors where there are such
        self._absent = (exceptions.NotFoundError, FileNotFoundError)
        self._exists = (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileExistsError)
        self._unsupported = (exceptions.NotSupportedError, NotImplementedError)
        self._failed = (exceptions.BaseError, OSError, NotImplementedError)
        try:
            self._store: ObjectStore = store.from_url(
                self._url,
                client_options={
                    # only where the endpoint that somebody named has no TLS
                    "allow_http": True,
                    "connect_timeout": min(CONNECT_TIMEOUT, patience),
                    "read_timeout": read_timeout,
                    "timeout": REQUEST_TIMEOUT,
                },
                retry_config={
                    "max_retries": RETRIES_MAX,
                    "retry_timeout": patience,
                    "backoff": {
                        "init_backoff": patience * FIRST_PAUSE,
                        "max_backoff": patience * LONGEST_PAUSE,
                        "base": GROWTH,
                    },
                },
            )
        except (exceptions.BaseError, ValueError) as error:
            raise BackupError(f"{url} is no place for backups: {_first_line(error)}") from error

    def __str__(self) -> str:
        return self._url

    def claimed(self) -> AbstractContextManager[None]:
        """Stores have no locks: of two backups at once each is whole, and they have done some work twice."""
        return nullcontext()

    def put(self, name: str, data: bytes) -> None:
        """In parts, where it is large; then asks for its size, since a store may say yes and keep half of it."""
        try:
            self._obstore.put(self._store, name, data)
        except self._failed as error:
            self._fail("writing", name, error)
        self._check_kept(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """By a conditional put; one without the condition, after a look, where the store says that it has none."""
        try:
            self._obstore.put(self._store, name, data, mode="create")
        except self._exists:
            # perhaps ours, by a request whose answer was lost
            return self.get(name, len(data)) == data
        except self._failed as error:
            if not (isinstance(error, self._unsupported) or UNSUPPORTED.search(str(error))):
                self._fail("writing", name, error)
            if name in self.sizes(name.rpartition("/")[0]):
                return False
            self.put(name, data)
            return True
        self._check_kept(name, data)
        return True

    def _check_kept(self, name: str, data: bytes) -> None:
        try:
            kept = self._obstore.head(self._store, name)["size"]
        except self._failed as error:
            self._fail("looking for", name, error)
        if kept != len(data):
            raise BackupError(
                f"{self._url}/{name} has {kept} bytes after {len(data)} were written to it; this store does not keep "
                "what it is given, take another one"
            )

    def get(self, name: str, size_max: int) -> bytes:
        """As the store has it now. What it sends beyond what was asked for is not taken into memory."""
        parts: list[bytes] = []
        left = size_max + 1
        try:
            for part in self._obstore.get(self._store, name).stream(min_chunk_size=READ_BYTES):
                parts.append(bytes(part[:left]))
                left -= len(parts[-1])
                if left == 0:
                    break
            return b"".join(parts)
        except self._absent as error:
            raise UnreadableBackupError(
                f"{self._url}/{name} is missing; was the archive copied whole, or do objects expire in that bucket?"
            ) from error
        except self._failed as error:
            self._fail("reading", name, error)

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """As the store lists them, sorted."""
        try:
            listed = [it for page in self._obstore.list(self._store, prefix.rstrip("/")) for it in page]
        except self._failed as error:
            self._fail("listing", prefix, error)
        return {it["path"]: it["size"] for it in sorted(listed, key=lambda it: it["path"])}

    def _fail(self, doing: str, name: str, error: Exception) -> NoReturn:
        if isinstance(error, self._denied) or DENIED.search(str(error)):
            advice = "look at the credentials and at what they allow in that bucket"
        elif isinstance(error, self._absent):
            advice = "is there such a bucket? It is not made here"
        else:
            advice = "give the command again when the store answers"
            if doing == "writing":
                advice += "; what is kept already stays, and it goes on there"
        raise BackupError(f"{doing} {self._url}/{name} failed: {_first_line(error)}; {advice}") from error


def _first_line(error: Exception) -> str:
    """What the library says; of the dump of its own structures that follows only what the system said."""
    said = str(error).strip()
    if not said:
        return type(error).__name__
    cause = CAUSE.search(said)
    return CONFIGURED.sub(": ", said.splitlines()[0]) + (f" ({cause[1]})" if cause else "")
