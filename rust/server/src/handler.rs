//! What a server needs of a broker.

use fastlog_broker::{Broker, ByteBudget, DiskThreads, Events, Outcome, Reply, RequestContext};
use std::sync::Arc;

/// Answers requests. Called on I/O threads: it must not wait.
pub trait Handler: Send + Sync {
    /// Handles one request (header and body, no length prefix). `reply` makes the way back for an answer that
    /// comes later, and is called at most once, only when the outcome is [`Outcome::Later`].
    fn handle(&self, context: &RequestContext, request: &[u8], reply: &mut dyn FnMut() -> Reply) -> Outcome;

    /// Where log lines go.
    fn events(&self) -> &Events;

    /// The budget that unfinished requests are charged to.
    fn budget(&self) -> &Arc<ByteBudget>;

    /// The threads that wait for disks.
    fn disks(&self) -> &Arc<DiskThreads>;
}

impl Handler for Broker {
    fn handle(&self, context: &RequestContext, request: &[u8], reply: &mut dyn FnMut() -> Reply) -> Outcome {
        Broker::handle(self, context, request, reply)
    }

    fn events(&self) -> &Events {
        Broker::events(self)
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        Broker::budget(self)
    }

    fn disks(&self) -> &Arc<DiskThreads> {
        Broker::disks(self)
    }
}
