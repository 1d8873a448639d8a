//! Closed segments of a partition in an object store, beside or instead of the files on the disk (KIP-405).
//!
//! Each partition has a *manifest* in the store, which names what is there. What it does not name is not there: an upload
//! counts when the manifest that names it is durable, a deletion when the one that no longer does is. So a crash leaves at
//! most objects that nobody names, and those are removed. `docs/adr/0019-…` has the reasons.

mod attach;
mod begin;
pub mod cache;
mod changes;
pub mod chunks;
mod directory;
mod encoding;
pub mod error;
mod indexes;
mod kept;
mod known;
mod loading;
pub mod manifest;
#[cfg(feature = "memory")]
pub mod memory;
mod objects;
mod probe;
mod quota;
pub mod reader;
mod requests;
#[cfg(feature = "s3")]
mod s3;
mod staged;
pub mod store;
pub mod tier;
pub mod timestamps;
mod upload;

pub use cache::{Cache, CachedChunk};
pub use error::{StoreError, TierError};
pub use indexes::Lookup;
pub use kept::Lost;
pub use known::{Expected, IDENTITY, KnownStore};
pub use manifest::{Entry, Manifest, Place};
pub use objects::ObjectStore;
pub use quota::LimitedStore;
pub use reader::{Found, Range, Reader, Wake};
pub use store::Store;
pub use tier::{Local, Tier, Writer};
