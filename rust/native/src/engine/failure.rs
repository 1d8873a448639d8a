//! The one map from the data plane's errors to Python's exceptions: a `KafkaError` of the error's code.

use fastlog_log::LogError;
use fastlog_protocol::ErrorCode;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

pyo3::import_exception!(fastlog.errors, ClosedError);

/// The exception for an error of the log.
pub(crate) fn to_python(error: &LogError) -> PyErr {
    kafka_error(error.code(), &error.to_string())
}

/// The exception for a code of Kafka's.
pub(super) fn kafka_error(code: ErrorCode, message: &str) -> PyErr {
    let made = Python::attach(|py| -> PyResult<PyErr> {
        let errors = py.import("fastlog.errors")?;
        let exception = errors.call_method1("error_for", (code.0, message))?;
        Ok(PyErr::from_value(exception))
    });
    made.unwrap_or_else(|_| PyRuntimeError::new_err(message.to_owned()))
}

/// The exception for what was ended already.
pub(super) fn closed(message: &str) -> PyErr {
    ClosedError::new_err(message.to_owned())
}
