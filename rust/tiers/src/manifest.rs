//! The manifest: what the store has of a partition.
//!
//! Big-endian: `FLTM` | format 2 (1) | topic's name: length 2 and bytes | topic id 16 | partition 4 | version 8 | node id 4 |
//! leader epoch 4 | log start 8 | count 4 and segments | CRC-32C 4 of all before. A segment: id 16 | base offset 8 | next
//! offset 8 | offset after the last of the object 8 (format 1: none, the next offset) | largest timestamp 8 | size of the batches 8 | size 4, CRC 4 of the lookup part of the indexes | size 4, CRC 4
//! of all indexes | aborted transactions 4 | count 4 and epochs (epoch 4, start 8).

use fastlog_log::EpochStart;
use fastlog_protocol::crc::crc32c;
use uuid::Uuid;

use crate::encoding::{Fields, count};
use crate::error::TierError;

const MAGIC: &[u8] = b"FLTM";
const FORMAT: u16 = 2;
/// Without the offset at which an object ends: nothing was cut.
const FORMAT_UNCUT: u16 = 1;
const CRC_BYTES: usize = 4;
const ENTRY_BYTES_MIN: usize = 72;
const EPOCH_BYTES: usize = 12;

/// Which partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The topic's name, for people who look into the store.
    pub topic: String,
    /// Its id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
}

/// What the store has of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Of which one.
    pub place: Place,
    /// Counts the manifests of the partition, from 1.
    pub version: u64,
    /// Who wrote it.
    pub node_id: i32,
    /// The epoch of its leadership then.
    pub leader_epoch: i32,
    /// Where the log started then.
    pub log_start_offset: i64,
    /// Uploaded segments, ascending, each beginning where the one before ends.
    pub segments: Vec<Entry>,
}

/// An uploaded segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names this upload: one that was tried again has another.
    pub id: Uuid,
    /// Its first offset.
    pub base_offset: i64,
    /// The base offset of the next segment.
    pub next_offset: i64,
    /// The offset after its last batch. More than `next_offset` where an unclean election made what follows another
    /// history: nothing of that is served.
    pub object_next_offset: i64,
    /// The largest timestamp of its records; −1 = none has one.
    pub max_timestamp: i64,
    /// Bytes of the batches; the lookup part has a checksum of each chunk of them.
    pub log_bytes: u64,
    /// The first bytes of the object of indexes: what reading needs.
    pub lookup_bytes: u32,
    /// CRC-32C of those.
    pub lookup_crc: u32,
    /// The whole object of indexes.
    pub indexes_bytes: u32,
    /// CRC-32C of that.
    pub indexes_crc: u32,
    /// How many aborted transactions ended in it.
    pub aborted_count: u32,
    /// The leader epochs of its records, and where each started.
    pub epochs: Vec<EpochStart>,
}

impl Manifest {
    /// Of a partition of which the store has nothing.
    pub fn empty(place: Place) -> Self {
        Self { place, version: 0, node_id: -1, leader_epoch: -1, log_start_offset: 0, segments: Vec::new() }
    }

    /// The first offset that the store has; `None` = nothing.
    pub fn start_offset(&self) -> Option<i64> {
        self.segments.first().map(|first| first.base_offset)
    }

    /// The offset after the last one that the store has; `None` = nothing.
    pub fn end_offset(&self) -> Option<i64> {
        self.segments.last().map(|last| last.next_offset)
    }

    /// The segment that holds `offset`.
    pub fn holding(&self, offset: i64) -> Option<&Entry> {
        let after = self.segments.partition_point(|it| it.base_offset <= offset);
        self.segments.get(after.checked_sub(1)?).filter(|it| offset < it.next_offset)
    }

    /// Segments from the one that holds `offset` on.
    pub fn from(&self, offset: i64) -> impl Iterator<Item = &Entry> {
        let first = self.segments.partition_point(|it| it.next_offset <= offset);
        self.segments.get(first..).unwrap_or_default().iter()
    }

    /// The leader epochs of all that the store has, ascending.
    pub fn epochs(&self) -> Vec<EpochStart> {
        let mut all: Vec<EpochStart> = Vec::new();
        for epoch in self.segments.iter().flat_map(|it| &it.epochs) {
            if all.last().is_none_or(|last| last.epoch < epoch.epoch) {
                all.push(*epoch);
            }
        }
        all
    }

    /// Leaves out all from offset `end` on, which is not of the log's history; true where there was any.
    pub fn cut(&mut self, end: i64) -> bool {
        if self.end_offset().is_none_or(|it| it <= end) {
            return false;
        }
        self.segments.retain(|it| it.base_offset < end);
        if let Some(last) = self.segments.last_mut() {
            last.next_offset = last.next_offset.min(end);
            last.epochs.retain(|it| it.start_offset < end);
        }
        true
    }

    /// Bytes of batches in the store.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|it| it.log_bytes).sum()
    }

    /// The bytes of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT.to_be_bytes());
        let Place { topic, topic_id, partition } = &self.place;
        // topics have 249 bytes at most
        out.extend(u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(topic.as_bytes());
        out.extend(topic_id.as_bytes());
        out.extend(partition.to_be_bytes());
        out.extend(self.version.to_be_bytes());
        out.extend(self.node_id.to_be_bytes());
        out.extend(self.leader_epoch.to_be_bytes());
        out.extend(self.log_start_offset.to_be_bytes());
        out.extend(count(self.segments.len()));
        self.segments.iter().for_each(|entry| entry.encode(&mut out));
        out.extend(crc32c(&out).to_be_bytes());
        out
    }

    /// Reads what `object` holds. `Corrupt` for bytes that are no manifest, or one whose segments do not follow each other.
    pub fn decode(object: &str, bytes: &[u8]) -> Result<Self, TierError> {
        let corrupt =
            |reason: &str| TierError::Corrupt { object: object.to_owned(), reason: reason.to_owned() };
        let body = bytes.split_last_chunk::<CRC_BYTES>();
        let (body, crc) = body.ok_or_else(|| corrupt("it is too short for a manifest"))?;
        if !body.starts_with(MAGIC) {
            return Err(corrupt("it is no manifest"));
        }
        if crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(corrupt("its checksum does not fit"));
        }
        let mut fields = Fields(body);
        let manifest = fields.bytes(MAGIC.len()).and_then(|_| fields.u16()).and_then(|format| {
            if [FORMAT_UNCUT, FORMAT].contains(&format) {
                Self::fields(&mut fields, format).map(Ok)
            } else {
                Some(Err(format))
            }
        });
        match manifest {
            Some(Ok(manifest)) if !fields.0.is_empty() || !manifest.is_in_order() => {
                Err(corrupt("its segments do not follow each other"))
            }
            Some(Ok(manifest)) => Ok(manifest),
            Some(Err(format)) => Err(corrupt(&format!(
                "its format is {format}, known is {FORMAT}: a newer version wrote it, and that one must be used"
            ))),
            None => Err(corrupt("it ends too early")),
        }
    }

    fn fields(fields: &mut Fields<'_>, format: u16) -> Option<Self> {
        let length = fields.u16()?.into();
        let topic = String::from_utf8(fields.bytes(length)?.to_vec()).ok()?;
        Some(Self {
            place: Place { topic, topic_id: fields.uuid()?, partition: fields.i32()? },
            version: fields.u64()?,
            node_id: fields.i32()?,
            leader_epoch: fields.i32()?,
            log_start_offset: fields.i64()?,
            segments: fields.list(ENTRY_BYTES_MIN, |fields| Entry::decode(fields, format))?,
        })
    }

    fn is_in_order(&self) -> bool {
        let is_one = |it: &Entry| {
            it.base_offset < it.next_offset && it.next_offset <= it.object_next_offset && it.log_bytes > 0
        };
        self.segments.iter().all(is_one)
            && self
                .segments
                .iter()
                .zip(self.segments.iter().skip(1))
                .all(|(a, b)| a.next_offset == b.base_offset)
    }
}

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.id.as_bytes());
        out.extend(self.base_offset.to_be_bytes());
        out.extend(self.next_offset.to_be_bytes());
        out.extend(self.object_next_offset.to_be_bytes());
        out.extend(self.max_timestamp.to_be_bytes());
        out.extend(self.log_bytes.to_be_bytes());
        out.extend(self.lookup_bytes.to_be_bytes());
        out.extend(self.lookup_crc.to_be_bytes());
        out.extend(self.indexes_bytes.to_be_bytes());
        out.extend(self.indexes_crc.to_be_bytes());
        out.extend(self.aborted_count.to_be_bytes());
        out.extend(count(self.epochs.len()));
        for epoch in &self.epochs {
            out.extend(epoch.epoch.to_be_bytes());
            out.extend(epoch.start_offset.to_be_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>, format: u16) -> Option<Self> {
        let (id, base_offset, next_offset) = (fields.uuid()?, fields.i64()?, fields.i64()?);
        Some(Self {
            id,
            base_offset,
            next_offset,
            object_next_offset: if format == FORMAT_UNCUT { next_offset } else { fields.i64()? },
            max_timestamp: fields.i64()?,
            log_bytes: fields.u64()?,
            lookup_bytes: fields.u32()?,
            lookup_crc: fields.u32()?,
            indexes_bytes: fields.u32()?,
            indexes_crc: fields.u32()?,
            aborted_count: fields.u32()?,
            epochs: fields.list(EPOCH_BYTES, |fields| {
                Some(EpochStart { epoch: fields.i32()?, start_offset: fields.i64()? })
            })?,
        })
    }
}
