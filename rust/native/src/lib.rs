//! The Python extension fastlog.native._engine: converts and delegates, no logic

mod batch;
mod bench;
// the one module of this crate that may use unsafe: Python's buffers as slices
#[allow(unsafe_code)]
mod buffer;
mod codec;
mod engine;
mod fetch;
#[cfg(feature = "simulation")]
mod simulation;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use crate::batch::{
        batch_crcs, compress, crc32c, decompress, open_batch, open_batches, restamp_batch, seal_batch,
        validate_batch,
    };
    #[pymodule_export]
    use crate::bench::{
        BareFile, FileServer, append_batches, check_batches, clean_log, discard_frames, look_offsets_up,
    };
    #[pymodule_export]
    use crate::codec::{ApiCodec, decode_request_header};
    #[pymodule_export]
    use crate::engine::{ControlRequest, Engine, Intake, end_process_on_panic, keep_freed_memory};
    #[pymodule_export]
    use crate::fetch::{BrokerFailed, FetchedChunk, Fetcher, PartitionFailed};
    #[cfg(feature = "simulation")]
    #[pymodule_export]
    use crate::simulation::SimulatedNode;
}
