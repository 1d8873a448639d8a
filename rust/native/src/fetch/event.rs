//! The fetcher's news for Python.

use fastlog_client::Event;
use pyo3::prelude::*;

/// Broker id, leader epoch, and host, port and rack where they are told.
type LeaderTuple = (i32, i32, Option<(String, i32, Option<String>)>);

/// A partition whose fetch failed; it rests until it is fetched anew.
#[pyclass(frozen, get_all, module = "fastlog.native._engine")]
pub(crate) struct PartitionFailed {
    slot: u64,
    generation: u64,
    offset: i64,
    code: i16,
    preferred_replica: Option<i32>,
    diverging: Option<(i32, i64)>,
    leader: Option<LeaderTuple>,
}

/// A broker that could not be reached or made no sense; it is tried again.
#[pyclass(frozen, get_all, module = "fastlog.native._engine")]
pub(crate) struct BrokerFailed {
    broker_id: i32,
    code: i16,
    message: String,
}

pub(super) fn to_python(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyAny>> {
    match event {
        Event::Partition { slot, generation, offset, failure } => {
            let code = failure.code.0;
            let (preferred_replica, diverging) = (failure.preferred_replica, failure.diverging);
            let leader = failure.leader.map(|it| (it.broker_id, it.leader_epoch, it.endpoint));
            let failed =
                PartitionFailed { slot, generation, offset, code, preferred_replica, diverging, leader };
            Ok(Bound::new(py, failed)?.into_any())
        }
        Event::Broker { broker_id, error } => {
            let failed = BrokerFailed { broker_id, code: error.code().0, message: error.to_string() };
            Ok(Bound::new(py, failed)?.into_any())
        }
    }
}
