//! The codec that Python uses: it walks the protocol's static tables and makes msgspec structs from bytes, or bytes
//! from structs. One [`ApiCodec`] serves all versions of one API.

mod classes;
mod decode;
mod encode;
mod failure;
mod input;

use classes::Classes;
use decode::Decoder;
use encode::{Encoder, LeftOut};
use failure::{Failure, MalformedMessageError, Outcome, UnsupportedVersionError};
use fastlog_protocol::header::{RequestHeader, read_response_header, write_response_header};
use fastlog_protocol::primitives::{ELEMENTS_MAX, REQUEST_ELEMENTS_MAX, Reader, Writer};
use fastlog_protocol::schema::{self, Api, Struct};
use input::Input;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

/// Room that a message gets at once; most control messages fit.
const CAPACITY: usize = 512;

/// Encodes and decodes one API's messages.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct ApiCodec {
    api: &'static Api,
    classes: Classes,
}

#[pymethods]
impl ApiCodec {
    /// `structs` are the message classes of the API's module, in its `STRUCTS`' order.
    #[new]
    fn new(api_key: i16, structs: Vec<Bound<'_, PyType>>) -> PyResult<Self> {
        let unknown = || PyValueError::new_err(format!("the table has no API with key {api_key}"));
        let api = schema::api(api_key).ok_or_else(unknown)?;
        Ok(Self { api, classes: Classes::new(api, &structs)? })
    }

    /// The request's body in `buffer` from `offset` on, to its end.
    #[pyo3(signature = (version, buffer, offset = 0))]
    fn decode_request<'py>(
        &self,
        version: i16,
        buffer: &Bound<'py, PyAny>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.decode(self.api.request, version, buffer, offset, REQUEST_ELEMENTS_MAX)
    }

    /// The response's body in `buffer` from `offset` on, to its end.
    #[pyo3(signature = (version, buffer, offset = 0))]
    fn decode_response<'py>(
        &self,
        version: i16,
        buffer: &Bound<'py, PyAny>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.decode(self.api.response, version, buffer, offset, ELEMENTS_MAX)
    }

    /// The correlation id and the body of the response in `buffer`, which starts with its header.
    fn decode_response_frame<'py>(
        &self,
        version: i16,
        buffer: &Bound<'py, PyAny>,
    ) -> PyResult<(i32, Bound<'py, PyAny>)> {
        let input = Input::new(buffer)?;
        let mut r = Reader::new(input.bytes());
        self.check(version)?;
        let header = read_response_header(&mut r, self.api.key, version).map_err(|e| Box::new(e.into()));
        let correlation_id = header.map_err(|f: Box<Failure>| f.into_py("ResponseHeader", version))?;
        let body = self.read(self.api.response, version, &mut r, buffer.py())?;
        Ok((correlation_id, body))
    }

    /// The request's body as bytes.
    fn encode_request<'py>(
        &self,
        version: i16,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.encode(self.api.request, version, message, |_| Ok(()))
    }

    /// The response's body as bytes.
    fn encode_response<'py>(
        &self,
        version: i16,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.encode(self.api.response, version, message, |_| Ok(()))
    }

    /// The request with its header, without the length before it.
    fn encode_request_frame<'py>(
        &self,
        version: i16,
        message: &Bound<'py, PyAny>,
        correlation_id: i32,
        client_id: Option<&str>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let header = RequestHeader { api_key: self.api.key, api_version: version, correlation_id, client_id };
        self.encode(self.api.request, version, message, |w| Ok(header.encode(w)?))
    }

    /// The same in parts, which lie one after the other: large records are among them as they were given.
    fn encode_request_parts<'py>(
        &self,
        version: i16,
        message: &Bound<'py, PyAny>,
        correlation_id: i32,
        client_id: Option<&str>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let header = RequestHeader { api_key: self.api.key, api_version: version, correlation_id, client_id };
        let left_out = LeftOut::default();
        let w = self.write(self.api.request, version, message, |w| Ok(header.encode(w)?), Some(&left_out))?;
        let py = message.py();
        let mut parts = Vec::new();
        let mut rest = w.as_bytes();
        let mut done = 0;
        for (position, value) in left_out.into_inner() {
            let (before, after) = rest.split_at_checked(position - done).unwrap_or((rest, &[]));
            parts.push(PyBytes::new(py, before).into_any());
            parts.push(value.into_bound(py));
            (rest, done) = (after, position);
        }
        if !rest.is_empty() {
            parts.push(PyBytes::new(py, rest).into_any());
        }
        Ok(parts)
    }

    /// The response with its header, without the length before it.
    fn encode_response_frame<'py>(
        &self,
        version: i16,
        message: &Bound<'py, PyAny>,
        correlation_id: i32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.encode(self.api.response, version, message, |w| {
            write_response_header(w, self.api.key, version, correlation_id);
            Ok(())
        })
    }
}

impl ApiCodec {
    fn check(&self, version: i16) -> PyResult<()> {
        let versions = self.api.versions;
        if versions.contains(version) {
            return Ok(());
        }
        let (name, low, high) = (self.api.name, versions.low, versions.high);
        let message = format!("{name} has versions {low} to {high}, not {version}");
        Err(UnsupportedVersionError::new_err(message))
    }

    fn decode<'py>(
        &self,
        message: &'static Struct,
        version: i16,
        buffer: &Bound<'py, PyAny>,
        offset: usize,
        elements_max: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let input = Input::new(buffer)?;
        let body = input.bytes().get(offset..).ok_or_else(|| {
            let length = input.bytes().len();
            MalformedMessageError::new_err(format!(
                "the body starts at byte {offset} of a buffer of {length}"
            ))
        })?;
        self.check(version)?;
        self.read(message, version, &mut Reader::with_budget(body, elements_max), buffer.py())
    }

    fn read<'py>(
        &self,
        message: &'static Struct,
        version: i16,
        r: &mut Reader<'_>,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let decoder =
            Decoder { py, classes: &self.classes, version, flexible: self.api.is_flexible(version) };
        let whole = |r: &mut Reader<'_>| -> Outcome<Bound<'py, PyAny>> {
            let body = decoder.structure(r, message)?;
            r.expect_end()?;
            Ok(body)
        };
        whole(r).map_err(|failure| failure.into_py(message.name, version))
    }

    fn encode<'py>(
        &self,
        message: &'static Struct,
        version: i16,
        value: &Bound<'py, PyAny>,
        header: impl FnOnce(&mut Writer) -> Outcome<()>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let w = self.write(message, version, value, header, None)?;
        Ok(PyBytes::new(value.py(), w.as_bytes()))
    }

    fn write(
        &self,
        message: &'static Struct,
        version: i16,
        value: &Bound<'_, PyAny>,
        header: impl FnOnce(&mut Writer) -> Outcome<()>,
        left_out: Option<&LeftOut>,
    ) -> PyResult<Writer> {
        self.check(version)?;
        let flexible = self.api.is_flexible(version);
        let encoder = Encoder { classes: &self.classes, version, flexible, left_out };
        let mut w = Writer::with_capacity(CAPACITY);
        let whole = |w: &mut Writer| -> Outcome<()> {
            header(w)?;
            encoder.structure(w, message, value)
        };
        whole(&mut w).map_err(|failure| failure.into_py(message.name, version))?;
        Ok(w)
    }
}

/// The request header at the start of `buffer`: API key, version, correlation id, client id, and where the body
/// starts. An API or version that the table does not have is no error here.
#[pyfunction]
pub(crate) fn decode_request_header(
    buffer: &Bound<'_, PyAny>,
) -> PyResult<(i16, i16, i32, Option<String>, usize)> {
    let input = Input::new(buffer)?;
    let mut r = Reader::new(input.bytes());
    match RequestHeader::decode(&mut r) {
        Ok(h) => {
            let client_id = h.client_id.map(str::to_owned);
            Ok((h.api_key, h.api_version, h.correlation_id, client_id, r.position()))
        }
        Err(e) => Err(MalformedMessageError::new_err(format!("the request header does not parse: {e}"))),
    }
}
