//! What all partitions here share of the cluster: the lease, the epochs of the other brokers, the clock, and what is
//! to be told to the control plane.

mod lease;
mod notices;

pub(crate) use lease::Lease;
pub use notices::{Notice, Notices};

use crate::Wakeup;
use crate::broker::Clock;
use crate::throttle::Throttle;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The cluster as one broker sees it.
pub(crate) struct Cluster {
    pub(crate) node_id: i32,
    pub(crate) clock: Arc<dyn Clock>,
    /// `replica.lag.time.max.ms`
    pub(crate) replica_lag_max: Duration,
    pub(crate) lease: Lease,
    pub(crate) notices: Notices,
    pub(crate) throttle: Throttle,
    broker_epochs: ArcSwap<HashMap<i32, i64>>,
}

impl Cluster {
    pub(crate) fn new(
        node_id: i32,
        clock: Arc<dyn Clock>,
        replica_lag_max: Duration,
        wakeup: Arc<Wakeup>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node_id,
            clock,
            replica_lag_max,
            lease: Lease::endless(),
            notices: Notices::new(wakeup),
            throttle: Throttle::default(),
            broker_epochs: ArcSwap::default(),
        })
    }

    /// Whether a broker is registered under that epoch (KIP-903).
    pub(crate) fn is_registered(&self, broker_id: i32, broker_epoch: i64) -> bool {
        self.broker_epochs.load().get(&broker_id) == Some(&broker_epoch)
    }

    /// Whether a broker is registered.
    pub(crate) fn is_live(&self, broker_id: i32) -> bool {
        self.broker_epochs.load().contains_key(&broker_id)
    }

    pub(crate) fn set_broker_epochs(&self, epochs: HashMap<i32, i64>) {
        self.broker_epochs.store(Arc::new(epochs));
    }

    /// Whether what the lease gates must be refused. Without a cluster one atomic load.
    pub(crate) fn is_lease_over(&self) -> bool {
        self.lease.is_over(|| self.clock.monotonic_ns())
    }
}
