//! Bytes to structs.

use super::classes::Classes;
use super::failure::{Failure, Outcome};
use fastlog_protocol::primitives::Reader;
use fastlog_protocol::schema::{Field, Kind, Struct};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// Elements that an array gets room for at once; a longer one grows as its elements are read.
const CAPACITY_MAX: usize = 1_000;

/// Reads messages of one API and version.
pub(super) struct Decoder<'c, 'py> {
    pub(super) py: Python<'py>,
    pub(super) classes: &'c Classes,
    pub(super) version: i16,
    pub(super) flexible: bool,
}

type Object<'py> = Bound<'py, PyAny>;

impl<'py> Decoder<'_, 'py> {
    /// One struct; the recursion follows the static tables, which are a few levels deep.
    pub(super) fn structure(&self, r: &mut Reader<'_>, table: &'static Struct) -> Outcome<Object<'py>> {
        let class = self.classes.of(table)?;
        let mut values = Vec::with_capacity(table.fields.len());
        for (field, (_, default)) in table.fields.iter().zip(&class.fields) {
            values.push(if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(r, field).map_err(|failure| failure.in_field(field.name))?
            } else {
                self.classes.default(self.py, default)?
            });
        }
        if self.flexible {
            r.tags_or(|tag, r| self.tagged(r, table, tag, &mut values))?;
        }
        Ok(class.class.bind(self.py).call1(PyTuple::new(self.py, values)?)?)
    }

    /// Reads a tagged field into its place, if the struct has one with `tag`.
    fn tagged(
        &self,
        r: &mut Reader<'_>,
        table: &'static Struct,
        tag: u32,
        values: &mut [Object<'py>],
    ) -> Outcome<bool> {
        let mut known = table.fields.iter().zip(values);
        let place = known.find(|(field, _)| field.tag == Some(tag) && field.versions.contains(self.version));
        let Some((field, value)) = place else { return Ok(false) };
        *value = self.field(r, field).map_err(|failure| failure.in_field(field.name))?;
        Ok(true)
    }

    fn field(&self, r: &mut Reader<'_>, field: &'static Field) -> Outcome<Object<'py>> {
        let nullable = field.nullable.contains(self.version);
        if field.is_array() {
            return self.array(r, field, nullable);
        }
        let null = || self.py.None().into_bound(self.py);
        match (field.kind, nullable) {
            (Kind::String, true) => {
                let text = r.nullable_string(self.flexible)?;
                Ok(text.map_or_else(null, |text| PyString::new(self.py, text).into_any()))
            }
            (Kind::Bytes | Kind::Records, true) => {
                let bytes = r.nullable_bytes(self.flexible)?;
                Ok(bytes.map_or_else(null, |bytes| PyBytes::new(self.py, bytes).into_any()))
            }
            (Kind::Struct(inner), true) => {
                if r.is_present()? {
                    self.structure(r, inner)
                } else {
                    Ok(null())
                }
            }
            (kind, _) => self.value(r, kind),
        }
    }

    fn array(&self, r: &mut Reader<'_>, field: &'static Field, nullable: bool) -> Outcome<Object<'py>> {
        let count = match nullable {
            true => r.nullable_count(self.flexible, field.element_bytes)?,
            false => Some(r.count(self.flexible, field.element_bytes)?),
        };
        let Some(count) = count else { return Ok(self.py.None().into_bound(self.py)) };
        let mut items = Vec::with_capacity(count.min(CAPACITY_MAX));
        for index in 0..count {
            items.push(self.value(r, field.kind).map_err(|failure: Box<Failure>| failure.in_element(index))?);
        }
        Ok(PyList::new(self.py, items)?.into_any())
    }

    /// A value that is not null.
    fn value(&self, r: &mut Reader<'_>, kind: Kind) -> Outcome<Object<'py>> {
        let py = self.py;
        let Ok(object) = match kind {
            Kind::Struct(inner) => return self.structure(r, inner),
            Kind::Float64 => return Ok(r.f64()?.into_pyobject(py).map_err(PyErr::from)?.into_any()),
            Kind::String => return Ok(PyString::new(py, r.string(self.flexible)?).into_any()),
            Kind::Bytes | Kind::Records => return Ok(PyBytes::new(py, r.bytes(self.flexible)?).into_any()),
            Kind::Uuid => return Ok(PyBytes::new(py, r.uuid()?.as_bytes()).into_any()),
            Kind::Bool => return Ok(r.bool()?.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any()),
            Kind::Int8 => r.i8()?.into_pyobject(py),
            Kind::Int16 => r.i16()?.into_pyobject(py),
            Kind::Uint16 => r.u16()?.into_pyobject(py),
            Kind::Int32 => r.i32()?.into_pyobject(py),
            Kind::Uint32 => r.u32()?.into_pyobject(py),
            Kind::Int64 => r.i64()?.into_pyobject(py),
        };
        Ok(object.into_any())
    }
}
