//! Structs to bytes.

use super::classes::{Class, Classes, DefaultValue};
use super::failure::{Failure, Outcome};
use fastlog_protocol::primitives::Writer;
use fastlog_protocol::schema::{Field, Kind, Struct};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::cell::RefCell;
use uuid::Uuid;

/// From here on records are not copied where they can be left out.
const LEFT_OUT_BYTES: usize = 16 * 1024;

/// What was left out of the bytes: where it belongs, and the object that has it.
pub(super) type LeftOut = RefCell<Vec<(usize, Py<PyAny>)>>;

/// Writes messages of one API and version.
#[derive(Clone, Copy)]
pub(super) struct Encoder<'c> {
    pub(super) classes: &'c Classes,
    pub(super) version: i16,
    pub(super) flexible: bool,
    /// Where large records are noted instead of being copied; `None` = all is copied.
    pub(super) left_out: Option<&'c LeftOut>,
}

type Object<'py> = Bound<'py, PyAny>;

impl Encoder<'_> {
    /// One struct; the recursion follows the static tables, which are a few levels deep.
    pub(super) fn structure(
        &self,
        w: &mut Writer,
        table: &'static Struct,
        value: &Object<'_>,
    ) -> Outcome<()> {
        let class = self.classes.of(table)?;
        if !value.get_type().is(&class.class) {
            return Err(Failure::wrong_type(table.name, value));
        }
        let py = value.py();
        for (field, (name, _)) in table.fields.iter().zip(&class.fields) {
            if field.tag.is_none() && field.versions.contains(self.version) {
                let inner = value.getattr(name.bind(py))?;
                self.field(w, field, &inner).map_err(|failure| failure.in_field(field.name))?;
            }
        }
        if self.flexible { self.tags(w, table, class, value) } else { Ok(()) }
    }

    /// The tagged fields that differ from their default, by tag.
    fn tags(&self, w: &mut Writer, table: &'static Struct, class: &Class, value: &Object<'_>) -> Outcome<()> {
        let mut present = Vec::new();
        for (field, (name, default)) in table.fields.iter().zip(&class.fields) {
            let Some(tag) = field.tag.filter(|_| field.versions.contains(self.version)) else { continue };
            let inner = value.getattr(name.bind(value.py()))?;
            if !self.is_default(&inner, default)? {
                present.push((tag, field, inner));
            }
        }
        present.sort_by_key(|(tag, ..)| *tag);
        w.uvarint(present.len() as u32);
        for (tag, field, inner) in present {
            let mut bytes = Writer::new();
            // positions in these bytes are not the message's
            let copying = Encoder { left_out: None, ..*self };
            copying.field(&mut bytes, field, &inner).map_err(|failure| failure.in_field(field.name))?;
            w.tagged(tag, |w| {
                w.raw(bytes.as_bytes());
                Ok(())
            })?;
        }
        Ok(())
    }

    fn is_default(&self, value: &Object<'_>, default: &DefaultValue) -> Outcome<bool> {
        Ok(value.eq(self.classes.default(value.py(), default)?)?)
    }

    fn field(&self, w: &mut Writer, field: &'static Field, value: &Object<'_>) -> Outcome<()> {
        if value.is_none() {
            return self.null(w, field);
        }
        if field.is_array() {
            return self.array(w, field.kind, value);
        }
        if matches!(field.kind, Kind::Struct(_)) && field.nullable.contains(self.version) {
            w.present(true);
        }
        self.value(w, field.kind, value)
    }

    fn null(&self, w: &mut Writer, field: &'static Field) -> Outcome<()> {
        if !field.nullable.contains(self.version) {
            return Err(Failure::wrong_value(format!("None is not allowed in version {}", self.version)));
        }
        match field.kind {
            _ if field.is_array() => w.nullable_count(None, self.flexible)?,
            Kind::String => w.nullable_string(None, self.flexible)?,
            Kind::Struct(_) => w.present(false),
            _ => w.nullable_bytes(None, self.flexible)?,
        }
        Ok(())
    }

    fn array(&self, w: &mut Writer, kind: Kind, value: &Object<'_>) -> Outcome<()> {
        if let Ok(list) = value.cast::<PyList>() {
            return self.items(w, kind, list.len(), list.iter());
        }
        match value.cast::<PyTuple>() {
            Ok(tuple) => self.items(w, kind, tuple.len(), tuple.iter()),
            Err(_) => Err(Failure::wrong_type("a list or a tuple", value)),
        }
    }

    fn items<'py>(
        &self,
        w: &mut Writer,
        kind: Kind,
        count: usize,
        items: impl Iterator<Item = Object<'py>>,
    ) -> Outcome<()> {
        w.count(count, self.flexible)?;
        let mut written = 0;
        for item in items {
            self.value(w, kind, &item).map_err(|failure| failure.in_element(written))?;
            written += 1;
        }
        // another thread of a free-threaded Python can change the list
        if written != count {
            return Err(Failure::wrong_value(format!(
                "it changed from {count} to {written} elements meanwhile"
            )));
        }
        Ok(())
    }

    /// A value that is not null.
    fn value(&self, w: &mut Writer, kind: Kind, value: &Object<'_>) -> Outcome<()> {
        match kind {
            Kind::Struct(inner) => return self.structure(w, inner, value),
            Kind::String => match value.cast::<PyString>() {
                Ok(text) => w.string(text.to_str()?, self.flexible)?,
                Err(_) => return Err(Failure::wrong_type("str", value)),
            },
            Kind::Bytes => return self.bytes(w, value, None),
            Kind::Records => return self.bytes(w, value, self.left_out),
            Kind::Uuid => w.uuid(uuid(value)?),
            Kind::Bool => w.bool(number(value, "bool")?),
            Kind::Int8 => w.i8(number(value, "an int of 8 bits")?),
            Kind::Int16 => w.i16(number(value, "an int of 16 bits")?),
            Kind::Uint16 => w.u16(number(value, "an int of 16 bits without sign")?),
            Kind::Int32 => w.i32(number(value, "an int of 32 bits")?),
            Kind::Uint32 => w.u32(number(value, "an int of 32 bits without sign")?),
            Kind::Int64 => w.i64(number(value, "an int of 64 bits")?),
            Kind::Float64 => w.f64(number(value, "float")?),
        }
        Ok(())
    }

    /// The content of any object with the buffer protocol; only its length where it is large and may be left out.
    fn bytes(&self, w: &mut Writer, value: &Object<'_>, left_out: Option<&LeftOut>) -> Outcome<()> {
        if left_out.is_none()
            && let Ok(bytes) = value.cast::<PyBytes>()
        {
            return Ok(w.bytes(bytes.as_bytes(), self.flexible)?);
        }
        let buffer =
            PyBuffer::<u8>::get(value).map_err(|_| Failure::wrong_type("bytes or another buffer", value))?;
        w.count(buffer.item_count(), self.flexible)?;
        if let Some(left_out) = left_out.filter(|_| buffer.item_count() >= LEFT_OUT_BYTES) {
            left_out.borrow_mut().push((w.len(), value.clone().unbind()));
            return Ok(());
        }
        buffer.copy_to_slice(value.py(), w.reserve(buffer.item_count()))?;
        Ok(())
    }
}

fn uuid(value: &Object<'_>) -> Outcome<Uuid> {
    let bytes = value.cast::<PyBytes>().map_err(|_| Failure::wrong_type("the 16 bytes of a UUID", value))?;
    let wrong = |_| Failure::wrong_value(format!("a UUID has 16 bytes, got {}", bytes.as_bytes().len()));
    Uuid::from_slice(bytes.as_bytes()).map_err(wrong)
}

fn number<'a, 'py, T: FromPyObject<'a, 'py>>(value: &'a Object<'py>, expected: &str) -> Outcome<T> {
    value.extract().map_err(|_| {
        if value.is_instance_of::<pyo3::types::PyInt>() {
            return Failure::wrong_value(format!("expected {expected}, got {value}"));
        }
        Failure::wrong_type(expected, value)
    })
}
