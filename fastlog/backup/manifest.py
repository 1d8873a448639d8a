"""What a backup consists of: one JSON document an archive keeps for each."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from fastlog.errors import UnreadableBackupError

#: of the documents; a newer one than this version knows is refused. Version 2 may have partitions that are not whole,
#: which those that know version 1 would take for whole
FORMAT, FORMAT_OF_WHOLE = 2, 1
MANIFESTS = "manifests/"
CHUNKS = "chunks/"
SUFFIX = ".json"


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Batches of one partition, in an object of their own. It covers the offsets from `start` to before `end`."""

    name: str
    start: int
    end: int
    size_bytes: int
    sha256: str
    #: of its last batch, in the cluster that it was taken from
    leader_epoch: int
    #: the checksum of its last batch; none in those of earlier versions
    last_crc: int | None = None


class PartitionBackup(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: its first readable offset, the offset after its last record, what it holds."""

    partition: int
    start: int
    end: int
    chunks: tuple[Chunk, ...]
    #: why there is no more of it: it could not be read then, up to its end or at all; "" where it is whole
    missing: str = ""


class TopicBackup(msgspec.Struct, frozen=True, kw_only=True):
    """One topic; `configs` are the settings of its own."""

    name: str
    topic_id: str
    configs: dict[str, str]
    partitions: tuple[PartitionBackup, ...]

    @property
    def size_bytes(self) -> int:
        """Of its batches, compressed as they are."""
        return sum(chunk.size_bytes for it in self.partitions for chunk in it.chunks)

    def gaps(self) -> list[str]:
        """Partitions that are not whole, each in words."""
        return [
            f"{self.name}-{it.partition} is there "
            + (f"from offset {it.start} to {it.end}" if it.chunks else "without records")
            + f" ({it.missing})"
            for it in self.partitions
            if it.missing
        ]


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What a group has committed for a partition."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""


class GroupBackup(msgspec.Struct, frozen=True, kw_only=True):
    """One group's positions."""

    group_id: str
    positions: tuple[Position, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backup. `taken` is its name: the time of it in UTC, and later than those of all that were there."""

    format: int = FORMAT_OF_WHOLE
    #: of the rest of the document; none in those of earlier versions
    sha256: str = ""
    taken: str
    #: what the machine's clock said, where that was not later
    clock: str = ""
    cluster_id: str
    topics: tuple[TopicBackup, ...]
    groups: tuple[GroupBackup, ...]
    #: up to where kept chunks were read again (kept.Turn), by this backup and those before it
    verified_to: int = 0

    @property
    def object_name(self) -> str:
        """Where the archive keeps it."""
        return f"{MANIFESTS}{self.taken}{SUFFIX}"

    def gaps(self) -> list[str]:
        """Partitions that are not whole, each in words."""
        return [gap for topic in self.topics for gap in topic.gaps()]


class _Head(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """As it is kept."""
    digest = _digest(msgspec.json.encode(manifest))
    return msgspec.json.format(
        msgspec.json.encode(msgspec.structs.replace(manifest, sha256=digest)), indent=1
    )


def _digest(document: bytes) -> str:
    """Of what it says but for its own digest, however it is written down."""
    said = msgspec.json.decode(document, type=dict[str, Any])
    said.pop("sha256", None)
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def decode(data: bytes, what: str) -> Manifest:
    """Raises UnreadableBackupError, naming `what`, where that is no manifest, a damaged one, or of a newer version."""
    try:
        if msgspec.json.decode(data, type=_Head).format > FORMAT:
            raise UnreadableBackupError(
                f"{what} was written by a newer version of fastlog; restore it with that one"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
        digest = _digest(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableBackupError(f"{what} is not a manifest of a backup: {error}") from error
    if manifest.sha256 and manifest.sha256 != digest:
        raise UnreadableBackupError(
            f"{what} is damaged (its checksum differs); take an earlier backup, or copy it again"
        )
    return manifest
