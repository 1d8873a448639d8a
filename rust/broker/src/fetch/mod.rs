//! Fetch: sessions, reading, the long poll and the answer.

mod again;
mod answer;
mod delayed;
mod read;
mod session;
mod session_cache;
mod tiered;
mod watch;

pub(crate) use again::SentAgain;
pub(crate) use answer::{encode, encode_error, tells_leaders};
pub(crate) use delayed::DelayedFetch;
pub(crate) use read::{FetchPlan, Isolation, Replica, Served};
pub(crate) use session::{Look, TOPIC_IDS_VERSION, View, Wanted};
pub(crate) use session_cache::SessionCache;
pub(crate) use watch::WatchList;
