//! A request that Python answers.

use super::failure::closed;
use bytes::Bytes;
use fastlog_broker::{Broker, ControlRequest as Request, RequestContext};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// A control request; given up without an answer, it closes its connection.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct ControlRequest {
    #[pyo3(get)]
    api_key: i16,
    #[pyo3(get)]
    api_version: i16,
    #[pyo3(get)]
    correlation_id: i32,
    #[pyo3(get)]
    body_offset: usize,
    context: RequestContext,
    client_id: Option<String>,
    bytes: Bytes,
    broker: Arc<Broker>,
    /// None once answered.
    request: Mutex<Option<Request>>,
}

impl ControlRequest {
    pub(super) fn new(broker: Arc<Broker>, request: Request) -> Self {
        Self {
            api_key: request.api_key,
            api_version: request.api_version,
            correlation_id: request.correlation_id,
            body_offset: request.body_offset,
            context: request.context.clone(),
            client_id: request.client_id.clone(),
            bytes: request.request.clone(),
            broker,
            request: Mutex::new(Some(request)),
        }
    }

    fn take(&self) -> PyResult<Request> {
        self.request.lock().take().ok_or_else(|| closed("the request was answered already"))
    }
}

#[pymethods]
impl ControlRequest {
    // who asks is put into Python's words when that is wanted: heartbeats do not
    #[getter]
    fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    #[getter]
    fn principal(&self) -> &str {
        &self.context.principal
    }

    #[getter]
    fn listener(&self) -> &str {
        &self.context.listener.name
    }

    #[getter]
    fn client_address(&self) -> Option<String> {
        self.context.client_address.map(|it| it.to_string())
    }

    #[getter]
    fn local_address(&self) -> Option<(String, u16)> {
        self.context.local_address.map(|it| (it.ip().to_canonical().to_string(), it.port()))
    }

    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    fn answer(&self, py: Python<'_>, frame: &[u8]) -> PyResult<()> {
        let request = self.take()?;
        let response = Bytes::copy_from_slice(frame);
        py.detach(|| request.reply.send(response.into()));
        Ok(())
    }

    fn answer_by_engine(&self, py: Python<'_>) -> PyResult<()> {
        let request = self.take()?;
        py.detach(|| self.broker.answer_metadata(request));
        Ok(())
    }

    fn close(&self, py: Python<'_>, reason: String) -> PyResult<()> {
        let request = self.take()?;
        py.detach(|| request.reply.close(reason));
        Ok(())
    }
}
