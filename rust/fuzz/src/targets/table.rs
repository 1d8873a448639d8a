//! Messages read and written by walking the schema's tables, as the codec of the control plane does it, which makes
//! Python objects of them.

use crate::common::{Direction, table};
use fastlog_protocol::primitives::{ProtocolError, Reader, Writer};
use fastlog_protocol::schema::{Api, Default, Field, Kind, Struct};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Null,
    Number(i64),
    /// As bits, since a number that is none does not equal itself.
    Float(u64),
    Uuid(Uuid),
    Text(&'a str),
    Bytes(&'a [u8]),
    Array(Vec<Value<'a>>),
    Struct(Vec<Value<'a>>),
}

type Result<T> = std::result::Result<T, ProtocolError>;

/// Reads a message to its last byte and writes it again.
pub(super) fn again(api: &'static Api, direction: Direction, version: i16, bytes: &[u8]) -> Result<Vec<u8>> {
    let walk = Walk { version, flexible: api.is_flexible(version) };
    let message = table(api, direction);
    let mut reader = Reader::new(bytes);
    let value = walk.structure(&mut reader, message)?;
    reader.expect_end()?;
    let mut writer = Writer::new();
    walk.write_structure(&mut writer, message, &value)?;
    Ok(writer.into_bytes())
}

struct Walk {
    version: i16,
    flexible: bool,
}

impl Walk {
    fn structure<'a>(&self, r: &mut Reader<'a>, table: &'static Struct) -> Result<Value<'a>> {
        let mut values = Vec::with_capacity(table.fields.len());
        for field in table.fields {
            values.push(if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(r, field)?
            } else {
                default(field)
            });
        }
        if self.flexible {
            r.tags(|tag, r| {
                let mut known = table.fields.iter().zip(&mut values);
                let place =
                    known.find(|(field, _)| field.tag == Some(tag) && field.versions.contains(self.version));
                let Some((field, value)) = place else { return Ok(false) };
                *value = self.field(r, field)?;
                Ok(true)
            })?;
        }
        Ok(Value::Struct(values))
    }

    fn field<'a>(&self, r: &mut Reader<'a>, field: &'static Field) -> Result<Value<'a>> {
        let nullable = field.nullable.contains(self.version);
        if field.is_array() {
            let count = match nullable {
                true => r.nullable_count(self.flexible, field.element_bytes)?,
                false => Some(r.count(self.flexible, field.element_bytes)?),
            };
            let Some(count) = count else { return Ok(Value::Null) };
            return Ok(Value::Array((0..count).map(|_| self.value(r, field.kind)).collect::<Result<_>>()?));
        }
        match field.kind {
            Kind::String if nullable => {
                Ok(r.nullable_string(self.flexible)?.map_or(Value::Null, Value::Text))
            }
            Kind::Bytes | Kind::Records if nullable => {
                Ok(r.nullable_bytes(self.flexible)?.map_or(Value::Null, Value::Bytes))
            }
            Kind::Struct(_) if nullable && !r.is_present()? => Ok(Value::Null),
            kind => self.value(r, kind),
        }
    }

    fn value<'a>(&self, r: &mut Reader<'a>, kind: Kind) -> Result<Value<'a>> {
        Ok(match kind {
            Kind::Bool => Value::Number(r.bool()?.into()),
            Kind::Int8 => Value::Number(r.i8()?.into()),
            Kind::Int16 => Value::Number(r.i16()?.into()),
            Kind::Uint16 => Value::Number(r.u16()?.into()),
            Kind::Int32 => Value::Number(r.i32()?.into()),
            Kind::Uint32 => Value::Number(r.u32()?.into()),
            Kind::Int64 => Value::Number(r.i64()?),
            Kind::Float64 => Value::Float(r.f64()?.to_bits()),
            Kind::Uuid => Value::Uuid(r.uuid()?),
            Kind::String => Value::Text(r.string(self.flexible)?),
            Kind::Bytes | Kind::Records => Value::Bytes(r.bytes(self.flexible)?),
            Kind::Struct(inner) => return self.structure(r, inner),
        })
    }

    fn write_structure(&self, w: &mut Writer, table: &'static Struct, value: &Value<'_>) -> Result<()> {
        let Value::Struct(values) = value else { panic!("{} is no struct: {value:?}", table.name) };
        let (mut plain, mut tagged) = (Vec::new(), Vec::new());
        for (field, value) in table.fields.iter().zip(values) {
            match field.tag {
                _ if !field.versions.contains(self.version) => {}
                None => plain.push((field, value)),
                Some(_) if *value == default(field) => {}
                Some(tag) => tagged.push((tag, field, value)),
            }
        }
        for (field, value) in plain {
            self.write_field(w, field, value)?;
        }
        if !self.flexible {
            return Ok(());
        }
        tagged.sort_by_key(|(tag, ..)| *tag);
        w.uvarint(tagged.len() as u32);
        for (tag, field, value) in tagged {
            w.tagged(tag, |w| self.write_field(w, field, value))?;
        }
        Ok(())
    }

    fn write_field(&self, w: &mut Writer, field: &'static Field, value: &Value<'_>) -> Result<()> {
        match (value, field.kind) {
            (Value::Null, _) if field.is_array() => w.nullable_count(None, self.flexible),
            (Value::Null, Kind::String) => w.nullable_string(None, self.flexible),
            (Value::Null, Kind::Struct(_)) => {
                w.present(false);
                Ok(())
            }
            (Value::Null, _) => w.nullable_bytes(None, self.flexible),
            (Value::Array(items), kind) => {
                w.count(items.len(), self.flexible)?;
                items.iter().try_for_each(|item| self.write_value(w, kind, item))
            }
            (value, kind) => {
                if matches!(kind, Kind::Struct(_)) && field.nullable.contains(self.version) {
                    w.present(true);
                }
                self.write_value(w, kind, value)
            }
        }
    }

    fn write_value(&self, w: &mut Writer, kind: Kind, value: &Value<'_>) -> Result<()> {
        match (kind, value) {
            (Kind::Struct(inner), value) => return self.write_structure(w, inner, value),
            (_, Value::Text(text)) => return w.string(text, self.flexible),
            (_, Value::Bytes(bytes)) => return w.bytes(bytes, self.flexible),
            (_, Value::Uuid(uuid)) => w.uuid(*uuid),
            (_, Value::Float(bits)) => w.f64(f64::from_bits(*bits)),
            (Kind::Bool, Value::Number(number)) => w.bool(*number == 1),
            (Kind::Int8, Value::Number(number)) => w.i8(*number as i8),
            (Kind::Int16, Value::Number(number)) => w.i16(*number as i16),
            (Kind::Uint16, Value::Number(number)) => w.u16(*number as u16),
            (Kind::Int32, Value::Number(number)) => w.i32(*number as i32),
            (Kind::Uint32, Value::Number(number)) => w.u32(*number as u32),
            (Kind::Int64, Value::Number(number)) => w.i64(*number),
            (kind, value) => panic!("{value:?} is no {kind:?}"),
        }
        Ok(())
    }
}

fn default(field: &'static Field) -> Value<'static> {
    match (field.default, field.kind) {
        (Default::Null, _) => Value::Null,
        _ if field.is_array() => Value::Array(Vec::new()),
        (Default::Int(number), _) => Value::Number(number),
        (Default::True, _) => Value::Number(1),
        (Default::Empty, Kind::Struct(inner)) => Value::Struct(inner.fields.iter().map(default).collect()),
        (Default::Empty, Kind::String) => Value::Text(""),
        (Default::Empty, Kind::Bytes | Kind::Records) => Value::Bytes(b""),
        (Default::Empty, Kind::Uuid) => Value::Uuid(Uuid::nil()),
        (Default::Empty, Kind::Float64) => Value::Float(0),
        (Default::Empty, _) => Value::Number(0),
    }
}
