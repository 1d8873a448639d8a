//! The broker's data plane without sockets: partitions led here, dispatch, one file per API, long polls,
//! fetch sessions and the queue of requests that the control plane answers.
//!
//! A transport gives [`Broker::handle`] the bytes of one request (header and body, no length prefix) and gets
//! an [`Outcome`]; an answer that comes later arrives through the [`Reply`] that the transport made.

mod api;
mod broker;
mod budget;
mod cleaner;
mod cluster;
mod deletion;
mod disk;
mod dispatch;
mod events;
mod fetch;
mod image;
mod leaders;
mod log_manager;
mod pace;
mod partition;
mod produce;
mod reachable;
mod request;
mod scrubber;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sync;
mod throttle;
mod tiers;
mod waiters;
mod wakeup;

pub use broker::{Broker, BrokerConfig, Clock, SystemClock};
pub use budget::{ByteBudget, BytePermit};
pub use cleaner::CleanerSettings;
pub use cluster::{Notice, Notices};
pub use disk::{DiskJob, DiskThreads};
pub use events::{Event, Events, Level};
pub use fastlog_log::FileHandle;
pub use fastlog_tiers::StoreError;
pub use image::{
    ApiRange, Image, ImageBroker, ImagePartition, ImageTopic, Lane, PublishedImage, is_internal_topic,
    is_valid_topic_name,
};
pub use log_manager::{
    DescribedDirectory, DescribedFuture, FetchAnswer, FetchResult, FetchedFrom, LogManager, MoveSettings,
    OpenPartition, ReplicaChange, WantedReplica,
};
pub use partition::{
    Assignment, ChangeError, Duty, Fetched, FollowerPosition, FollowerState, Partition, PartitionSettings,
    PartitionTable, Replication, Role,
};
pub use request::context::{
    AllowAll, Authorizer, Listener, ListenerProtocol, Operation, RequestContext, Resource,
};
pub use request::control_queue::{ControlQueue, ControlRequest};
pub use request::response::{Answer, FileRange, Outcome, Reply, ReplySink, Response, Segment};
pub use scrubber::ScrubSettings;
pub use tiers::Tiers;
pub use wakeup::Wakeup;
