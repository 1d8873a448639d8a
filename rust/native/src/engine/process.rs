//! What `fastlog serve` asks for its process.

use pyo3::prelude::*;

#[pyfunction]
pub(crate) fn keep_freed_memory() -> bool {
    fastlog_sys::allocator::keep_freed_memory()
}

#[pyfunction]
pub(crate) fn end_process_on_panic() {
    fastlog_sys::panics::end_process_on_panic();
}
