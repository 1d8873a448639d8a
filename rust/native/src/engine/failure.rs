//! The one map from the data plane's errors to Python's exceptions: a `KafkaError` of the error's code.

use fastlog_log::LogError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

pyo3::import_exception!(fastlog.errors, ClosedError);

/// The exception for an error of the log.
pub(super) fn to_python(error: &LogError) -> PyErr {
    let made = Python::attach(|py| -> PyResult<PyErr> {
        let errors = py.import("fastlog.errors")?;
        let exception = errors.call_method1("error_for", (error.code().0, error.to_string()))?;
        Ok(PyErr::from_value(exception))
    });
    made.unwrap_or_else(|_| PyRuntimeError::new_err(error.to_string()))
}

/// The exception for what was ended already.
pub(super) fn closed(message: &str) -> PyErr {
    ClosedError::new_err(message.to_owned())
}
