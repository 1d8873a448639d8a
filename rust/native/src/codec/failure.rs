//! Why a message could not be read or written, with the way to the field that is to blame.

use fastlog_protocol::primitives::ProtocolError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::fmt::Write;

pyo3::import_exception!(fastlog.errors, MalformedMessageError);
pyo3::import_exception!(fastlog.errors, UnsupportedVersionError);

pub(super) type Outcome<T> = Result<T, Box<Failure>>;

/// What went wrong, and where.
pub(super) struct Failure {
    cause: Cause,
    /// The innermost step first.
    path: Vec<Step>,
}

enum Cause {
    /// Bytes that are no message, or a value that does not fit its bytes.
    Protocol(ProtocolError),
    /// A value of the wrong type.
    Type(String),
    /// A value out of its range.
    Value(String),
    /// What Python raised.
    Python(PyErr),
}

enum Step {
    Field(&'static str),
    Index(usize),
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self { cause: Cause::Protocol(error), path: Vec::new() }
    }
}

impl From<ProtocolError> for Box<Failure> {
    fn from(error: ProtocolError) -> Self {
        Self::new(error.into())
    }
}

impl From<PyErr> for Box<Failure> {
    fn from(error: PyErr) -> Self {
        Self::new(Failure { cause: Cause::Python(error), path: Vec::new() })
    }
}

impl Failure {
    /// A value of the wrong type.
    pub(super) fn wrong_type(expected: &str, value: &Bound<'_, PyAny>) -> Box<Self> {
        let got =
            value.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
        Box::new(Self { cause: Cause::Type(format!("expected {expected}, got {got}")), path: Vec::new() })
    }

    /// A value out of its range.
    pub(super) fn wrong_value(message: String) -> Box<Self> {
        Box::new(Self { cause: Cause::Value(message), path: Vec::new() })
    }

    /// The failure as seen from the struct that holds `field`.
    pub(super) fn in_field(mut self: Box<Self>, field: &'static str) -> Box<Self> {
        self.path.push(Step::Field(field));
        self
    }

    /// The failure as seen from the array that holds the element `index`.
    pub(super) fn in_element(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.path.push(Step::Index(index));
        self
    }

    fn place(&self, message: &str, version: i16) -> String {
        let mut place = format!("{message} version {version}");
        for (depth, step) in self.path.iter().rev().enumerate() {
            let written = match step {
                Step::Field(field) => write!(place, "{}{field}", if depth == 0 { ", " } else { "." }),
                Step::Index(index) => write!(place, "[{index}]"),
            };
            debug_assert!(written.is_ok(), "a String takes all");
        }
        place
    }

    /// The exception to raise for the message `message`.
    pub(super) fn into_py(self, message: &str, version: i16) -> PyErr {
        let place = self.place(message, version);
        match self.cause {
            Cause::Protocol(error @ (ProtocolError::TooLong { .. } | ProtocolError::NullField { .. })) => {
                PyValueError::new_err(format!("{place}: {error}"))
            }
            Cause::Protocol(error) => MalformedMessageError::new_err(format!("{place}: {error}")),
            Cause::Type(text) => PyTypeError::new_err(format!("{place}: {text}")),
            Cause::Value(text) => PyValueError::new_err(format!("{place}: {text}")),
            Cause::Python(error) => error,
        }
    }
}
