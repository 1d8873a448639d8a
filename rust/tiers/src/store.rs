//! The port to an object store, and the crate `object_store` behind it: a directory, or S3 and what speaks its protocol.
//!
//! Calls block, on threads that may: none of them is an I/O thread. The runtime that `object_store` needs has one thread
//! of its own.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore as Inner, ObjectStoreExt, PutMode, PutPayload,
};
use tokio::runtime::Runtime;

use crate::error::StoreError;

/// How large the parts of an upload are: S3 wants 5 MiB or more of each but the last, and at most 10,000 of them.
pub const PART_BYTES: usize = 8 << 20;
/// In the names of files that are being written, of which nothing is listed; in no key of ours.
const STAGED: char = '#';
/// Threads for the files of a directory.
const BLOCKING_THREADS: usize = 4;

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its whole key.
    pub key: String,
    /// How many bytes it says it has.
    pub size_bytes: u64,
}

/// Objects by key. Every call blocks, and has an end. What it wrote or removed is durable, and seen by every later call.
pub trait Store: Send + Sync + Debug {
    /// Puts an object of `length` bytes, which come in parts of about [`PART_BYTES`]; it replaces what is there, whole or
    /// not at all.
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError>;
    /// Makes an object that must not be there: of several who try one succeeds, the others have `Exists`.
    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;
    /// The bytes of a range: exactly so many, or an error.
    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;
    /// How many bytes it has of an object.
    fn size(&self, key: &str) -> Result<u64, StoreError>;
    /// Removes an object; no error where there is none.
    fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// Removes what is left of uploads under `prefix/` that the death of their process ended, where the store keeps that
    /// and nobody else removes it. None may be under way there.
    fn remove_unfinished(&self, prefix: &str) -> Result<(), StoreError>;
    /// All objects whose keys begin with `prefix/`, in no particular order. What was made before it was called is in it.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError>;
    /// The same of keys that are greater than `key`.
    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError>;
}

/// A store of the crate `object_store`.
#[derive(Debug)]
pub struct ObjectStore {
    inner: Arc<dyn Inner>,
    root: Path,
    /// Where it is one.
    directory: Option<PathBuf>,
    runtime: Runtime,
}

fn failed(what: &'static str, key: &str, reason: impl ToString) -> StoreError {
    StoreError::Failed { what, key: key.to_owned(), reason: reason.to_string() }
}

/// What is to be put could not be read.
pub(crate) fn unread(key: &str, error: &io::Error) -> StoreError {
    StoreError::Source { key: key.to_owned(), reason: error.to_string() }
}

fn of_crate(what: &'static str, key: &str, error: &object_store::Error) -> StoreError {
    match error {
        object_store::Error::NotFound { .. } => StoreError::NotFound { key: key.to_owned() },
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            StoreError::Exists { key: key.to_owned() }
        }
        error => failed(what, key, with_causes(error)),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl ObjectStore {
    /// Opens the store at `url`: `file:///directory`, a directory's absolute path, or `s3://bucket/prefix`. S3's access,
    /// region and endpoint are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`), or of the instance. Nothing is asked of it yet; a directory is made.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let fails = |reason: String| failed("open", url, reason);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("fastlog-store")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| fails(error.to_string()))?;
        let (inner, root, directory): (Arc<dyn Inner>, Path, Option<PathBuf>) =
            if let Some(rest) = url.strip_prefix("s3://") {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(fails("it names no bucket: give s3://bucket/prefix".to_owned()));
                }
                let root = Path::parse(prefix).map_err(|error| fails(error.to_string()))?;
                (s3(bucket).map_err(fails)?, root, None)
            } else {
                let directory = FilePath::new(url.strip_prefix("file://").unwrap_or(url));
                if !directory.is_absolute() {
                    let known = "give s3://bucket/prefix, or the absolute path of a directory";
                    return Err(fails(format!("no such kind of store is known: {known}")));
                }
                std::fs::create_dir_all(directory).map_err(|error| fails(error.to_string()))?;
                let local = LocalFileSystem::new_with_prefix(directory);
                let local = local.map_err(|error| fails(with_causes(&error)))?;
                // a manifest must be on the disk before the segments that it names go from the log; and directories of
                // topics that are gone are not to stay
                let local = local.with_fsync(true).with_automatic_cleanup(true);
                (Arc::new(local), Path::default(), Some(directory.to_owned()))
            };
        Ok(Self { inner, root, directory, runtime })
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &str) -> Result<Arc<dyn Inner>, String> {
    crate::s3::open(bucket).map_err(|error| with_causes(&error))
}

#[cfg(not(feature = "s3"))]
fn s3(_bucket: &str) -> Result<Arc<dyn Inner>, String> {
    Err("this build has no S3, its feature `s3` is off".to_owned())
}

impl Store for ObjectStore {
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "put";
        let path = self.path(key);
        let next = |parts: &mut dyn Iterator<Item = io::Result<Bytes>>| {
            parts.next().transpose().map_err(|error| unread(key, &error))
        };
        let first = next(parts)?.unwrap_or_default();
        if first.len() as u64 == length {
            let put = self.runtime.block_on(self.inner.put(&path, first.into()));
            return put.map(|_| ()).map_err(|error| of_crate(WHAT, key, &error));
        }
        self.runtime.block_on(async {
            let mut upload =
                self.inner.put_multipart(&path).await.map_err(|error| of_crate(WHAT, key, &error))?;
            let mut sent = 0;
            let mut part = Some(first);
            while let Some(bytes) = part {
                sent += bytes.len() as u64;
                let put = upload.put_part(PutPayload::from(bytes)).await;
                let after = match put {
                    Ok(()) => next(parts),
                    Err(error) => Err(of_crate(WHAT, key, &error)),
                };
                match after {
                    Ok(bytes) => part = bytes,
                    Err(error) => {
                        // what fails here is left to the store's own rules for uploads that never end
                        let _aborted = upload.abort().await;
                        return Err(error);
                    }
                }
            }
            if sent != length {
                let _aborted = upload.abort().await;
                return Err(failed(WHAT, key, format!("{sent} bytes were given, not {length}")));
            }
            upload.complete().await.map(|_| ()).map_err(|error| of_crate(WHAT, key, &error))
        })
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(key);
        let put = self.inner.put_opts(&path, bytes.into(), PutMode::Create.into());
        self.runtime.block_on(put).map(|_| ()).map_err(|error| of_crate("create", key, &error))
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        const WHAT: &str = "get";
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = self.path(key);
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        self.runtime.block_on(async {
            let got = self.inner.get_opts(&path, options).await;
            let got = got.map_err(|error| of_crate(WHAT, key, &error))?;
            if got.range != range {
                return Err(failed(WHAT, key, format!("bytes {:?} came, not {range:?}", got.range)));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
            let mut stream = got.into_stream();
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece.map_err(|error| of_crate(WHAT, key, &error))?);
                if bytes.len() as u64 > wanted {
                    return Err(failed(
                        WHAT,
                        key,
                        format!("more than the {wanted} bytes came that were asked for"),
                    ));
                }
            }
            if bytes.len() as u64 != wanted {
                return Err(failed(WHAT, key, format!("{} bytes came, not {wanted}", bytes.len())));
            }
            Ok(bytes.into())
        })
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        let meta = self.runtime.block_on(self.inner.head(&self.path(key)));
        meta.map(|it| it.size).map_err(|error| of_crate("look at", key, &error))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.runtime.block_on(self.inner.delete(&self.path(key))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_crate("delete", key, &error)),
        }
    }

    fn remove_unfinished(&self, prefix: &str) -> Result<(), StoreError> {
        // S3 does not list them: there a rule of the bucket ends them
        let Some(directory) = &self.directory else { return Ok(()) };
        let directory = directory.join(prefix);
        let fails = |error: io::Error| failed("remove unfinished files in", prefix, error);
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(fails)?,
        };
        for entry in entries {
            let path = entry.map_err(fails)?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(STAGED)) {
                std::fs::remove_file(&path).map_err(fails)?;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let path = self.path(prefix);
        self.collect(prefix, self.inner.list(Some(&path)))
    }

    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError> {
        let (path, after) = (self.path(prefix), self.path(key));
        self.collect(prefix, self.inner.list_with_offset(Some(&path), &after))
    }
}

impl ObjectStore {
    fn collect(
        &self,
        prefix: &str,
        mut stream: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> Result<Vec<Listed>, StoreError> {
        let path = self.path(prefix);
        self.runtime.block_on(async {
            let mut listed = Vec::new();
            while let Some(meta) = stream.next().await {
                let meta = meta.map_err(|error| of_crate("list", prefix, &error))?;
                let name = meta
                    .location
                    .prefix_match(&path)
                    .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    listed.push(Listed { key: format!("{prefix}/{name}"), size_bytes: meta.size });
                }
            }
            Ok(listed)
        })
    }
}
