//! The table of Kafka's messages as static data: which fields each struct has, in which versions, in which order.
//!
//! The data plane's messages are generated code; whoever needs any message of any version (the codec that Python
//! uses, the tests) walks these tables instead. They nest, but never into themselves, so a walk's depth is bounded.

mod apis;
#[cfg(test)]
mod tests;

pub use apis::APIS;

/// One API.
#[derive(Debug)]
pub struct Api {
    /// Its key.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// The versions that the table knows.
    pub versions: Versions,
    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    pub flexible_from: i16,
    /// The request's body.
    pub request: &'static Struct,
    /// The response's body.
    pub response: &'static Struct,
    /// All structs of both, each at its index.
    pub structs: &'static [&'static Struct],
}

impl Api {
    /// Whether `version` has compact lengths and tagged fields.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

/// A message's body, or a struct inside one.
#[derive(Debug)]
pub struct Struct {
    /// Kafka's name of it.
    pub name: &'static str,
    /// Its place in its API's `structs`.
    pub index: usize,
    /// Its fields in the order of the wire; tagged ones come after all others there.
    pub fields: &'static [Field],
}

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    /// Its name in our code.
    pub name: &'static str,
    /// Its type, or its elements' type.
    pub kind: Kind,
    /// 0 for a field that is not an array, else the fewest bytes that one element takes in any version.
    pub element_bytes: usize,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null.
    pub nullable: Versions,
    /// Its tag, for a tagged field.
    pub tag: Option<u32>,
    /// Its value in versions that do not have it; a tagged field with this value is not written.
    pub default: Default,
}

/// A field's type.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are Kafka's types")]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(&'static Struct),
}

/// A field's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Zero, false, empty, or a struct of defaults.
    Empty,
    /// Null.
    Null,
    /// True.
    True,
    /// A number.
    Int(i64),
}

/// Versions from `low` to `high`, both inclusive; none where `high` is below `low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first version.
    pub low: i16,
    /// The last version.
    pub high: i16,
}

impl Versions {
    /// No version.
    pub const NONE: Self = Self { low: 0, high: -1 };

    /// Whether `version` is one of them.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }
}

impl Field {
    const fn new(name: &'static str, kind: Kind, low: i16, high: i16) -> Self {
        let versions = Versions { low, high };
        let nullable = Versions::NONE;
        Self { name, kind, element_bytes: 0, versions, nullable, tag: None, default: Default::Empty }
    }

    const fn array(mut self, element_bytes: usize) -> Self {
        self.element_bytes = element_bytes;
        self
    }

    const fn nullable(mut self, low: i16, high: i16) -> Self {
        self.nullable = Versions { low, high };
        self
    }

    const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    const fn or(mut self, default: Default) -> Self {
        self.default = default;
        self
    }

    /// Whether it is an array.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        self.element_bytes > 0
    }
}

/// The API with `key`; none where the table has none.
#[must_use]
pub fn api(key: i16) -> Option<&'static Api> {
    let place = APIS.binary_search_by_key(&key, |api| api.key).ok()?;
    APIS.get(place).copied()
}
