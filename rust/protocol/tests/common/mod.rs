//! Random messages of any API and version, written by walking the schema tables.

use fastlog_protocol::primitives::Writer;
use fastlog_protocol::schema::{Api, Default, Field, Kind, Struct};
use uuid::Uuid;

/// A small generator of random numbers (splitmix64): the same seed gives the same message.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn text(&mut self) -> String {
        let length = self.below(6);
        (0..length).map(|_| ['a', 'Z', '0', '.', 'é', '→', '\0', '🦀'][self.below(8)]).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(9);
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Which of an API's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Request,
    Response,
}

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Request, Direction::Response];

/// The table of one of the API's messages.
pub(crate) fn table(api: &'static Api, direction: Direction) -> &'static Struct {
    match direction {
        Direction::Request => api.request,
        Direction::Response => api.response,
    }
}

/// A random message as Kafka would write it: tagged fields in order, and none that has its default.
pub(crate) fn message(api: &'static Api, direction: Direction, version: i16, seed: u64) -> Vec<u8> {
    let mut maker = Maker { version, flexible: api.is_flexible(version), random: Random(seed) };
    let mut w = Writer::new();
    maker.structure(&mut w, table(api, direction));
    w.into_bytes()
}

struct Maker {
    version: i16,
    flexible: bool,
    random: Random,
}

impl Maker {
    fn structure(&mut self, w: &mut Writer, table: &'static Struct) {
        let present = |field: &&Field| field.versions.contains(self.version);
        let (plain, mut tagged): (Vec<_>, Vec<_>) =
            table.fields.iter().filter(present).partition(|field| field.tag.is_none());
        for field in plain {
            self.field(w, field);
        }
        if !self.flexible {
            return;
        }
        tagged.sort_by_key(|field| field.tag);
        let mut written = Vec::new();
        for field in tagged {
            let (mut value, mut default) = (Writer::new(), Writer::new());
            self.field(&mut value, field);
            self.default(&mut default, field);
            if value.as_bytes() != default.as_bytes() {
                written.push((field.tag.unwrap(), value));
            }
        }
        w.uvarint(written.len() as u32);
        for (tag, value) in written {
            w.uvarint(tag);
            w.uvarint(value.len() as u32);
            w.raw(value.as_bytes());
        }
    }

    fn field(&mut self, w: &mut Writer, field: &'static Field) {
        if field.nullable.contains(self.version) && self.random.below(3) == 0 {
            return self.null(w, field);
        }
        if field.is_array() {
            let count = self.random.below(4);
            w.count(count, self.flexible).unwrap();
            for _ in 0..count {
                self.value(w, field.kind);
            }
            return;
        }
        if matches!(field.kind, Kind::Struct(_)) && field.nullable.contains(self.version) {
            w.present(true);
        }
        self.value(w, field.kind);
    }

    fn null(&mut self, w: &mut Writer, field: &'static Field) {
        match field.kind {
            _ if field.is_array() => w.nullable_count(None, self.flexible).unwrap(),
            Kind::String => w.nullable_string(None, self.flexible).unwrap(),
            Kind::Struct(_) => w.present(false),
            _ => w.nullable_bytes(None, self.flexible).unwrap(),
        }
    }

    fn value(&mut self, w: &mut Writer, kind: Kind) {
        let number = self.random.next();
        match kind {
            Kind::Bool => w.bool(number & 1 == 1),
            Kind::Int8 => w.i8(number as i8),
            Kind::Int16 => w.i16(number as i16),
            Kind::Uint16 => w.u16(number as u16),
            Kind::Int32 => w.i32(number as i32),
            Kind::Uint32 => w.u32(number as u32),
            Kind::Int64 => w.i64(number as i64),
            Kind::Float64 => w.f64(number as f64),
            Kind::Uuid => w.uuid(Uuid::from_u64_pair(number, number)),
            Kind::String => w.string(&self.random.text(), self.flexible).unwrap(),
            Kind::Bytes | Kind::Records => w.bytes(&self.random.bytes(), self.flexible).unwrap(),
            Kind::Struct(inner) => self.structure(w, inner),
        }
    }

    fn default(&mut self, w: &mut Writer, field: &'static Field) {
        match (field.default, field.kind) {
            (Default::Null, _) => self.null(w, field),
            _ if field.is_array() => w.count(0, self.flexible).unwrap(),
            (Default::Empty, Kind::Struct(inner)) => {
                for field in inner.fields {
                    self.default(w, field);
                }
                w.uvarint(0);
            }
            (default, kind) => self.scalar(w, default, kind),
        }
    }

    fn scalar(&self, w: &mut Writer, default: Default, kind: Kind) {
        let number = match default {
            Default::Int(number) => number,
            other => i64::from(other == Default::True),
        };
        match kind {
            Kind::Bool => w.bool(number == 1),
            Kind::Int8 => w.i8(number as i8),
            Kind::Int16 => w.i16(number as i16),
            Kind::Int32 => w.i32(number as i32),
            Kind::Int64 => w.i64(number),
            Kind::Uuid => w.uuid(Uuid::nil()),
            Kind::String | Kind::Bytes => w.string("", self.flexible).unwrap(),
            other => panic!("no tagged field is of the kind {other:?} yet"),
        }
    }
}
