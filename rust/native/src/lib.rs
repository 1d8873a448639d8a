//! The Python extension fastlog.native._engine: converts and delegates, no logic

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _engine {}
