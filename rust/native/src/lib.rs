//! The Python extension fastlog.native._engine: converts and delegates, no logic

mod codec;
mod fetch;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use crate::codec::{ApiCodec, decode_request_header};
    #[pymodule_export]
    use crate::fetch::{BrokerFailed, FetchedChunk, Fetcher, PartitionFailed};
}
