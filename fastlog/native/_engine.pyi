"""The Rust engine, as Python sees it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, final

from fastlog.config.table import BrokerSettings, TopicSettings
from fastlog.errors import KafkaError
from fastlog.native._builder import BatchBuilder
from fastlog.ports import Topic

Buffer: TypeAlias = bytes | bytearray | memoryview

# --- the broker's data plane ---

def keep_freed_memory() -> bool:
    """Has a broker's own process keep 64 MiB an arena of freed memory; False where the allocator is not glibc's."""

def end_process_on_panic() -> None:
    """Has a broker's own process end with SIGABRT when a panic ends a thread that the engine lives by."""

@final
class Engine:
    """The data plane of one broker. Calls that touch the disk or the network release the GIL, and block."""

    def __new__(cls, settings: BrokerSettings) -> Engine:
        """Makes one without partitions and listeners; `settings` is read by attribute."""

    @staticmethod
    def read_cluster_id(directory: str) -> str | None:
        """The cluster that a data directory belongs to; None for a fresh one. Takes no lock."""

    def open_directories(self, directories: Sequence[str], cluster_id: str) -> tuple[str, bool]:
        """Locks data directories and takes them into use, in the order of log.dirs.

        Answers how the last run ended, `clean`, `process died` or `machine died`, in the directory where it ended
        worst, and whether one was lost since then, as a person wrote down. Raises a KafkaError, with nothing touched,
        when one is in use, of another broker or cluster, or newer than this, when one that the broker has is not among
        them, or when a partition is in two.
        """

    def finish_opening(self) -> list[Path]:
        """To be called when all partitions are open after a start; the directories that belong to no topic."""

    def describe_directories(
        self,
    ) -> list[tuple[str, str, int, int, list[tuple[str, int, int]], list[tuple[str, int, int, int]]]]:
        """Each data directory: path, what is wrong with it if anything, bytes of its disk in all and free, its logs,
        and the replicas that are to be moved to it.

        Each log is (topic, partition, bytes on disk), sorted; each of the others (topic, partition, bytes that are
        copied, how many offsets the copy is behind).
        """

    def move_replicas(self, replicas: Sequence[tuple[str, bytes, int, Path]]) -> list[KafkaError | None]:
        """Has replicas, each a topic, its id, a partition and a data directory, moved there; one that is there stays.

        Returns when that is written down, synced: it is done in the background, by the next start if need be. Of each
        why it is not moved: LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR where a directory is offline or the first cannot be
        written to, REPLICA_NOT_AVAILABLE where the partition is not here (then it is remembered where to make it),
        INVALID_TOPIC_EXCEPTION for a name that is too long, INVALID_REQUEST for a tiered topic.
        """

    def close_directories(self) -> None:
        """Closes all logs and marks each directory as closed cleanly; raises what kept one from that."""

    def open_topics(
        self, topics: Sequence[tuple[str, bytes, Sequence[tuple[int, int]], TopicSettings]]
    ) -> list[KafkaError | None]:
        """Opens or makes logs and leads them: of each topic its name and id, (partition, leader epoch) pairs, settings.

        All are tried; of each topic the first failure, if any, and each failure is logged.
        """

    def delete_topics(self, topics: Sequence[tuple[str, bytes]]) -> list[int | KafkaError]:
        """Closes and renames the directories of topics, each a name and an id, for a later purge.

        All are tried; of each how many there were, or why not all of it is put away.
        """

    def configure(self, settings: BrokerSettings) -> None:
        """Takes what may be changed while it runs: the cleaner's settings, the limits of connections, and how long
        producers are remembered, for topics that are given settings from now on."""
    def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        """Gives the open partitions of a topic new settings."""

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """Moves the log start durably and returns it; -1 is the high watermark. Raises a KafkaError."""

    def wait_deleted(
        self, partitions: Sequence[tuple[str, int, int]], timeout_ms: int
    ) -> list[tuple[int, int]]:
        """Waits until live replicas deleted records too; see `fastlog.broker.data_plane.DataPlane`."""

    def producers(self, topic: str, partition: int) -> list[tuple[int, int, int, int, int, int]]:
        """The producers that a partition here remembers; see fastlog.broker.data_plane."""
    def log_sizes(self) -> list[tuple[str, int, int]]:
        """(topic, partition, bytes of batches) of each open partition, sorted."""

    def publish_topics(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Replaces topics in the metadata image by name and takes others away, all at once."""

    def publish_cluster(
        self,
        *,
        cluster_id: str,
        controller_id: int,
        auto_create_topics: bool,
        apis: Sequence[tuple[int, int, int, bool]],
        endpoints: Mapping[str, tuple[str, int]],
        zmq_endpoint: tuple[str, int] | None,
        node_id: int | None = None,
        brokers: Sequence[tuple[int, str | None, Mapping[str, tuple[str, int]]]] = ...,
    ) -> None:
        """Replaces what Metadata says of the cluster and of this broker; see fastlog.broker.image."""

    def control_fd(self) -> int:
        """A descriptor that is readable when `drain_control` or `drain_events` has something."""

    def drain_control(self, limit: int) -> list[ControlRequest]:
        """Takes at most `limit` control requests; the descriptor stays readable while some are left."""

    def groups_fd(self) -> int:
        """A descriptor that is readable when `drain_groups` has something."""

    def drain_groups(self, limit: int) -> list[ControlRequest]:
        """Takes at most `limit` requests of groups; the descriptor stays readable while some are left."""

    def drain_events(self) -> tuple[list[tuple[str, str, dict[str, str]]], int]:
        """Takes the log lines, (level, text, fields) each, and the number of those that did not fit."""

    def listen(self, name: str, host: str, port: int) -> int:
        """Serves TCP at an address; the bound port. An empty host is every interface. Raises OSError."""

    def zmq_intake(self, name: str, host: str, port: int, inter_broker: bool = False) -> Intake:
        """The engine's side of a ZeroMQ listener; `host` and `port` are what its clients are told.

        Only with `inter_broker` are replicas served, and commands between brokers not CLUSTER_AUTHORIZATION_FAILED.
        """

    def own_intake(self) -> Intake:
        """Where the broker hands in requests of its own, which may write to Kafka's own topics."""

    def finish_waiting(self) -> None:
        """Answers all long polls now and later ones at once, and takes no more control requests."""

    def stop_listening(self, grace_ms: int) -> None:
        """Ends the TCP listeners; what is in flight is answered for at most `grace_ms`."""

    def shutdown(self) -> None:
        """Ends every thread and lets go of the directory; again is harmless."""

    def directory_count(self) -> int:
        """How many data directories are in use: the calls of housekeeping take the number of one, from 0 on."""

    def enforce_retention(self, directory: int, now_ms: int) -> int:
        """Deletes the segments that retention says, of the partitions in a data directory; how many."""

    def purge_deleted(self, directory: int, now_ms: int) -> int:
        """Removes the files of segments and partitions deleted there long enough ago; how many."""

    def close_idle_files(self) -> int:
        """Closes the files of logs that nobody used since this was last called; how many."""

    def clean_one(self, now_ms: int) -> bool:
        """Cleans the compacted log that needs it most, which may take minutes; False when none does."""

    def stop_cleaner(self) -> None:
        """Ends a `clean_one` that is under way, and later ones at once; does not wait."""

    def run_tiers(self, now_ms: int) -> bool:
        """Uploads a full segment of each tiered partition that has one, and deletes what retention says.

        Waits for the object store. True = there may be more to do at once.
        """

    def stop_tiers(self) -> None:
        """Ends a `run_tiers` that is under way after its segment, and reads from the store; does not wait."""

    def move_next(self, now_ms: int) -> bool:
        """Does a step of a move of a replica; False when none is wanted, or they were stopped."""

    def stop_moves(self) -> None:
        """Ends a `move_next` that is under way, and later ones at once; does not wait. A start begins it anew."""

    def scrub_next(self, now_ms: int) -> bool:
        """Looks at records that are doubted, and checks a segment, at the scrub's rate; False when there is none.

        It is the one of doubted records that are bad, or the next one of the pass that is under way or due. Records are
        doubted that a consumer was sent again and again, or of which `verify` was told.
        """

    def stop_scrub(self) -> None:
        """Ends a `scrub_next` that is under way, and later ones at once; does not wait."""

    def look_at_rooms(self) -> None:
        """Asks the disks for their room: appends are refused where less than `fastlog.disk.floor.bytes` is left."""

    def checkpoint_recovery_points(self, directory: int) -> None:
        """Writes down what is known to be synced there."""

    def checkpoint_log_starts(self, directory: int) -> None:
        """Writes down the log start offsets there."""

    def checkpoint_high_watermarks(self, directory: int) -> None:
        """Writes down the high watermarks there."""

    # replication: see docs/engine.md

    def apply_partitions(
        self,
        changes: Sequence[
            tuple[str, bytes, int, int, int, int, Sequence[int], Sequence[int]]
            | tuple[str, bytes, int, int, int, int, Sequence[int], Sequence[int], bool]
        ],
        settings: Mapping[str, TopicSettings],
    ) -> list[tuple[int, str]]:
        """Makes partitions here leaders or followers; see `fastlog.broker.data_plane.ReplicationPlane`."""

    def set_isr(
        self,
        topic: str,
        index: int,
        leader_epoch: int,
        committed: Sequence[int],
        maximal: Sequence[int],
        partition_epoch: int,
        held: bool = False,
    ) -> None:
        """Changes the in-sync replicas of a partition led here: those confirmed, and with those that are proposed.

        The high watermark follows the second, and stands still while the first are fewer than min.insync.replicas, or
        it is `held`: while the state names eligible leader replicas, which must have all that is committed.
        Raises a KafkaError: FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, INVALID_UPDATE_VERSION
        for an older partition epoch.
        """

    def resign(self) -> int:
        """Leads nothing any more; how many partitions it was, which are followed without a leader now, in their epochs.

        Each is led here again only in a later one. Requests that wait are answered with NOT_LEADER_OR_FOLLOWER.
        """

    def delete_partitions(
        self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]], is_deleted: bool
    ) -> int:
        """Puts replicas away: (partition, leader epoch), each unless its epoch here is a later one (KIP-570); how many.

        Open or not, their directories are renamed for a later purge; those of another topic id stay. `is_deleted`: with
        the topic, and an object store is to forget it too. Blocks, and may be repeated after the KafkaError that it
        raises.
        """

    def replica_positions(
        self,
    ) -> list[tuple[str, int, int, int, int, int, list[tuple[int, int, int, int, int]]]]:
        """Where the followers of the partitions led here are, sorted by topic and partition.

        Each is topic, partition, leader epoch, log end offset, high watermark, the log end when the epoch began, and
        the followers: replica, broker epoch, log end offset (-1 before its first fetch in this epoch), log start
        offset, milliseconds since it had all that there was.
        """

    def drain_notices(self) -> list[tuple[str, str, int, int]]:
        """Takes what happened to partitions, once each: what, topic, partition, replica. `control_fd` tells of them.

        `joinable`: that follower outside the in-sync replicas has what it needs to join. `synced`: a follower's log
        here is synced, and it may fetch on; the replica is -1.
        """

    def fetch_positions(
        self, partitions: Sequence[tuple[str, int]]
    ) -> list[tuple[int, int, int, int, int] | None]:
        """Where followers go on: log end offset, epoch of the last record (-1 for none), durable end offset, log start
        offset, high watermark.

        While the durable end is less than the log's a sync is to come, and the partition is not to be fetched. None
        for one that is not open here.
        """

    def append_fetched(
        self, answer: bytes, version: int, asked: dict[tuple[bytes, int], tuple[int, int]]
    ) -> list[tuple[bytes, int, int, int, tuple[int, int] | None, str]]:
        """Takes in the answer of a Fetch (header and body, version 13 or later); blocks on the disk.

        `asked` has leader epoch and offset of the fetch by topic id and partition. A result for each partition that
        is in both: topic id, partition, error code, log end offset (-1 if not appended), epoch and end offset of the
        leader where the logs part, and for a person what is wrong. An answer to an older epoch is
        NOT_LEADER_OR_FOLLOWER, one to another offset than the log's end INVALID_REQUEST, damaged bytes are
        CORRUPT_MESSAGE. Raises a KafkaError where the whole answer is an error or does not parse.
        """

    def truncate(self, topic: str, index: int, leader_epoch: int, offset: int) -> bool:
        """Drops what a follower has from `offset` on, durably; whether there was any. Blocks on the disk.

        Raises NOT_LEADER_OR_FOLLOWER where it does not follow a leader of that epoch.
        """

    def restart_at(self, topic: str, index: int, leader_epoch: int, offset: int) -> None:
        """Has a follower start anew, empty, at its leader's log start. Blocks, and raises as `truncate`."""

    def begin_after_tier(
        self, topic: str, index: int, leader_epoch: int, local_start_offset: int, log_start_offset: int
    ) -> bool:
        """Has a follower begin anew where an uploaded segment ends, with epochs and producers from the object store.

        `local_start_offset` is where its leader's disk begins, `log_start_offset` where its whole log does. False: what
        is needed is on its way from the store, and this is to be called again; a KafkaError says why it does not come.
        Blocks on the disk, never on the store; raises as `truncate` too.
        """

    def end_offset_for(self, topic: str, index: int, epoch: int) -> tuple[int, int]:
        """The largest leader epoch known here that is no later than `epoch`, and the offset where it ends.

        (-1, -1) for one that is later than all.
        """

    def damages_found(self) -> int:
        """How often damage was found in a log since the start; cheap."""

    def damaged(self) -> list[tuple[str, bytes, int, int, int, int, str]]:
        """Topic, its id, partition, first damaged offset, first good one behind it, bytes, what is wrong; of all."""

    def verify(self, topic: str, topic_id: bytes, index: int, offset: int) -> bool:
        """Has `scrub_next` check the segment that has an offset; False where too many wait for that. Cheap."""

    def mend(self, topic: str, topic_id: bytes, index: int, offset: int, records: bytes) -> None:
        """Puts whole batches from another replica in the place of the damaged ones from `offset` on, synced.

        InvalidRequestError where they are not what was there; nothing was changed then.
        """

    def set_broker_epochs(self, epochs: Mapping[int, int]) -> None:
        """Says under which epochs brokers are registered: a follower's fetches count only under its own."""

    def set_lease(self, until_ns: int) -> None:
        """Says until when (time.monotonic_ns) this broker may act for itself alone; 2**63 - 1 is for ever.

        After it acks 0 and 1, acks=all of a leader alone in sync, and reads beyond what was known then are refused
        with NOT_LEADER_OR_FOLLOWER.
        """

    def set_replication_rates(self, leader: int, follower: int) -> None:
        """Bytes per second that throttled replicas send and fetch here; 2**63 - 1 is no limit.

        Throttled are those that their topic's settings list, while they are not in sync (KIP-73).
        """

    def offline_replicas(self) -> list[tuple[str, bytes, int]]:
        """The replicas whose data directory failed: topic, topic id, partition; also those it had before the start."""

    def held_back(self) -> list[tuple[bytes, int]]:
        """The followers here that are to be left out of fetches now, for the rate: topic id, partition."""

@final
class ControlRequest:
    """A request that waits for Python's answer; given up without one, it closes its connection."""

    @property
    def api_key(self) -> int:
        """The API's key."""

    @property
    def api_version(self) -> int:
        """The version, one of those that were published."""

    @property
    def correlation_id(self) -> int:
        """What the answer carries back."""

    @property
    def client_id(self) -> str | None:
        """What the client calls itself."""

    @property
    def principal(self) -> str:
        """Who the client is."""

    @property
    def listener(self) -> str:
        """The listener's name."""

    @property
    def client_address(self) -> str | None:
        """The peer's HOST:PORT; None for ZeroMQ."""

    @property
    def local_address(self) -> tuple[str, int] | None:
        """The host and port that the client connected to; None for ZeroMQ."""

    @property
    def request(self) -> bytes:
        """Header and body."""

    @property
    def body_offset(self) -> int:
        """Where the body begins."""

    def answer(self, frame: bytes) -> None:
        """Sends header and body of the answer. ClosedError where it was answered before. Releases the GIL."""

    def answer_by_engine(self) -> None:
        """Has the data plane answer a Metadata request from the image as it is now."""

    def close(self, reason: str) -> None:
        """Closes the connection; the reason is for the log line."""

@final
class Intake:
    """Takes requests from Python: those of a ZeroMQ listener, or the broker's own; one thread uses it."""

    def submit(self, peer: int, frames: Sequence[Buffer]) -> bytes | None:
        """Handles one request, the concatenation of `frames`; the answer, or None where it comes later.

        The frames are read in place: nobody may write to them meanwhile. Releases the GIL. Raises ValueError with the
        reason where a TCP connection would be closed.
        """

    def completions_fd(self) -> int:
        """A descriptor that is readable when there is something to drain."""

    def drain_completions(self, bytes_max: int) -> list[tuple[int, bytes | None]]:
        """(peer, answer) of requests that ended by now; None is that it has no answer.

        It stops at the answer that makes them `bytes_max` or more; the descriptor then stays readable. Releases the GIL
        while it reads files.
        """

    def memory_bytes_max(self) -> int:
        """The memory for requests, in bytes (`queued.max.request.bytes`)."""

# --- the wire codec: none of it blocks or releases the GIL ---

@final
class ApiCodec:
    """Encodes and decodes one API's messages; `fastlog.protocol.codec` is its typed face."""

    def __new__(cls, api_key: int, structs: Sequence[type]) -> ApiCodec: ...
    def decode_request(self, version: int, buffer: Buffer, offset: int = 0) -> Any: ...
    def decode_response(self, version: int, buffer: Buffer, offset: int = 0) -> Any: ...
    def decode_response_frame(self, version: int, buffer: Buffer) -> tuple[int, Any]: ...
    def encode_request(self, version: int, message: object) -> bytes: ...
    def encode_response(self, version: int, message: object) -> bytes: ...
    def encode_request_frame(
        self, version: int, message: object, correlation_id: int, client_id: str | None
    ) -> bytes: ...
    def encode_request_parts(
        self, version: int, message: object, correlation_id: int, client_id: str | None
    ) -> list[Buffer]: ...
    def encode_response_frame(self, version: int, message: object, correlation_id: int) -> bytes: ...

def decode_request_header(buffer: Buffer) -> tuple[int, int, int, str | None, int]:
    """API key, version, correlation id, client id, where the body starts."""

# --- the consumer's fetcher ---

@final
class Fetcher:
    """Fetches partitions ahead of their reader, one thread per broker, without the GIL. Thread-safe."""

    def __new__(
        cls,
        *,
        client_id: str,
        rack: str,
        fetch_min_bytes: int,
        fetch_max_bytes: int,
        max_partition_fetch_bytes: int,
        fetch_max_wait_ms: int,
        read_committed: bool,
        check_crcs: bool,
        prefetch_bytes: int,
        connect_timeout_ms: int,
        request_timeout_ms: int,
        reconnect_backoff_ms: int,
        reconnect_backoff_max_ms: int,
    ) -> Fetcher:
        """Connects to nobody yet. `prefetch_bytes` bounds what waits to be taken, over all brokers."""

    @property
    def buffered_bytes(self) -> int:
        """The bytes that wait to be taken."""

    def set_brokers(self, brokers: Sequence[tuple[int, str, int]]) -> None:
        """Says where the brokers are: id, host, port. The connection to one that moved or is gone is ended."""

    def fetch(self, targets: Sequence[tuple[int, int, str, bytes, int, int, int, int]]) -> None:
        """Fetches partitions, dropping what their slots held.

        Each is slot, generation, topic, topic id (16 bytes, zeros for none), partition, broker id, leader epoch (-1 for
        none), offset. Slot and generation are the caller's numbers and come back with what was fetched.
        """

    def move_to(self, slot: int, generation: int, broker_id: int, leader_epoch: int) -> bool:
        """Goes on where the fetching of a slot stands, from another broker; keeps what waits to be taken.

        False if the slot is unknown or of another generation.
        """

    def stop(self, slots: Sequence[int]) -> None:
        """Stops fetching partitions and drops what their slots held."""

    def next(self, timeout_ms: int) -> FetchedChunk | None:
        """Waits for the next chunk; None after `timeout_ms`, after `wake`, or when closed. Releases the GIL.

        It looks for signals: it may raise KeyboardInterrupt, having taken nothing."""

    def next_event(self, timeout_ms: int) -> PartitionFailed | BrokerFailed | None:
        """Waits for the next event; None after `timeout_ms`, after `wake_events`, or when closed. Releases the GIL."""

    def wake(self) -> None:
        """Ends the wait of a thread in `next`, or the next one."""

    def wake_events(self) -> None:
        """Ends the wait of a thread in `next_event`, or the next one."""

    def watermarks(self, slot: int) -> tuple[int, int, int] | None:
        """High watermark, last stable offset and log start offset as last told; -1 where unknown."""

    def close(self, timeout_ms: int) -> bool:
        """Ends connections and threads; waits for at most `timeout_ms`, without the GIL. False: some end later."""

@final
class FetchedChunk:
    """The batches that one fetch brought for one partition."""

    @property
    def slot(self) -> int:
        """As given to `Fetcher.fetch`."""

    @property
    def generation(self) -> int:
        """As given to `Fetcher.fetch`."""

    @property
    def fetch_offset(self) -> int:
        """The offset asked for; the first batch may begin before it."""

    @property
    def next_offset(self) -> int:
        """The offset after everything in it."""

    @property
    def size_bytes(self) -> int:
        """The memory that its batches took."""

    @property
    def corrupt(self) -> tuple[int, str] | None:
        """Offset and fault of the batch at its end that cannot be read; sure once `pop` has given None."""

    def pop(self) -> tuple[bytes, int, int] | None:
        """The next batch: bytes, base offset, position after it; None after the last one.

        The CRC was checked if the fetcher does that, and the records are decompressed: here, releasing the GIL, if too
        much waited for that to be done ahead. The position after it is also past what an application never sees.
        """

    def __len__(self) -> int:
        """Batches left."""

@final
class PartitionFailed:
    """A partition whose fetch failed; it rests until it is fetched or moved."""

    @property
    def slot(self) -> int:
        """As given to `Fetcher.fetch`."""

    @property
    def generation(self) -> int:
        """As given to `Fetcher.fetch`."""

    @property
    def offset(self) -> int:
        """The offset asked for; all before it is delivered or waits to be taken."""

    @property
    def code(self) -> int:
        """Kafka's error code; 0 where the broker only points elsewhere."""

    @property
    def preferred_replica(self) -> int | None:
        """The replica to read from instead (KIP-392)."""

    @property
    def diverging(self) -> tuple[int, int] | None:
        """Leader epoch and end offset where the broker's log parts from what was fetched."""

    @property
    def leader(self) -> tuple[int, int, tuple[str, int, str | None] | None] | None:
        """Who leads instead (KIP-951): broker id, leader epoch, and host, port and rack where the broker tells them."""

@final
class BrokerFailed:
    """A broker that could not be reached or made no sense; it is tried again with back-off."""

    @property
    def broker_id(self) -> int:
        """Which."""

    @property
    def code(self) -> int:
        """Kafka's error code for it."""

    @property
    def message(self) -> str:
        """What was tried, where, and why it failed."""

# --- record batches; codecs are numbers: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd. All release the GIL where the
# work takes longer than giving it back and forth: sealing up to 512 KiB without compression does not. ---

def crc32c(buffer: Buffer, /) -> int: ...
def batch_crcs(batches: list[Any], /) -> list[int]:
    """The CRCs for the headers of batches, each in a buffer with its header, of which only the CRC is not there yet."""

def compress(buffer: Buffer, compression: int, level: int | None = None, /) -> bytes: ...
def decompress(buffer: Buffer, compression: int, max_bytes: int | None = None, /) -> bytes:
    """At most `max_bytes`; without it, at most a thousand times the input (at least 1 MiB) and 256 MiB."""

def seal_batch(
    builder: BatchBuilder,
    *,
    compression: int = 0,
    level: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    is_transactional: bool = False,
) -> memoryview | bytes:
    """All bytes of the batch: a view of the builder's own memory without compression, else new bytes."""

def restamp_batch(batch: Buffer, *, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
    """A copy of a sealed batch with another producer id, epoch and base sequence."""

def open_batches(buffer: Buffer, /) -> memoryview | bytes:
    """The whole batches at the start of a buffer, decompressed, CRCs checked; a partial last one is left out."""

def open_batch(buffer: Buffer, /) -> memoryview | bytes:
    """The one batch at the start of a buffer, decompressed, its CRC checked."""

def validate_batch(
    batch: Buffer, /, *, now_ms: int, max_batch_bytes: int = 1_048_588, is_compacted: bool = False
) -> int:
    """Checks a batch as a broker does before it appends; the largest timestamp, or the client's error raised."""

# --- the loops of the benchmarks; all block and release the GIL, and times are nanoseconds ---

@final
class BareFile:
    """A new file that is only appended to, preallocated as a log's segments are. Raises OSError."""

    def __new__(cls, path: str | PathLike[str], *, preallocate: bool = True) -> BareFile:
        """Makes the file; FileExistsError where there is one."""

    def append(self, buffer: Buffer, count: int = 1, *, sync: bool = False) -> list[int]:
        """Writes `buffer` at the end `count` times, each with an fdatasync if `sync`; the time of each.

        Nobody may write to `buffer` meanwhile.
        """

@final
class FileServer:
    """Sends a whole file by sendfile(2) to each who connects to a loopback port. Raises OSError."""

    def __new__(cls, path: str | PathLike[str], *, chunk_bytes: int) -> FileServer:
        """Listens on a free port; each sendfile is of `chunk_bytes` at most."""

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""

    def close(self) -> None:
        """Ends it, and a connection that is being served; again is harmless."""

def append_batches(
    directory: str | PathLike[str], topic: str, batch: Buffer, count: int, *, now_ms: int
) -> list[int]:
    """Appends `batch` `count` times to a new log, `topic-0` below `directory`; the time of each append.

    Each is checked as a broker checks it. The log is closed, its files stay. Raises a KafkaError.
    """

def clean_log(directory: str | PathLike[str], log_bytes: int, keys: int) -> tuple[int, int, int, int, int]:
    """Fills a new log `clean-0` below `directory` with about `log_bytes` of records with `keys` keys, and cleans it.

    A record has some 100 bytes, a batch 16 KiB, keys come in no order. Returns the bytes before and after, the records
    before and those that stayed, and the nanoseconds of the pass, its syncs included. The files stay. Raises OSError.
    """

def look_offsets_up(
    directory: str | PathLike[str], topic: str, offsets: Sequence[int], *, now_ms: int
) -> list[int]:
    """Looks `offsets` up in the log `topic-0` below `directory`, one after the other; the time of each.

    That is from the offset to file, position and length of its batches, as a fetch does. Raises a KafkaError.
    """

def discard_frames(
    address: str,
    count: int,
    *,
    requests: Sequence[bytes],
    ahead: int,
    every: timedelta | None = None,
    within: timedelta | None = None,
) -> tuple[int, list[int]]:
    """Takes `count` frames, four bytes of length before each, from IP:PORT and has the kernel throw them away.

    Requests are sent as they are, at most `ahead` of them unanswered, with `every` one each so often; without any, the
    server is one that sends by itself. A frame that is not there `within` that time does not count, and ends it. Gives
    the bytes that came and the time from frame to frame. Raises OSError, also after 30 s of silence.
    """

def check_batches(address: str) -> tuple[int, int, int]:
    """Reads record batches from IP:PORT until the server ends the connection, and checks the CRC of each.

    Gives bytes, batches and time. Raises OSError, also for a wrong CRC.
    """
