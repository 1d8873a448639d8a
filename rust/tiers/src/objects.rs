//! The crate `object_store` behind the port: a directory, or S3 and what speaks its protocol.
//!
//! Calls block, on threads that may: no I/O thread. The runtime that `object_store` needs has one thread of its own, and a
//! few for files of a directory. One that hangs is given up: the caller is told, and the process's end does not wait for it.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore as Inner, ObjectStoreExt, PutMode, PutPayload,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::directory;
use crate::error::StoreError;
use crate::probe;
use crate::requests::{Call, DEADLINE, failed};
use crate::staged::remove_staged;
use crate::store::{Listed, STAYS, Store, unread};

/// Threads for the files of a directory.
const BLOCKING_THREADS: usize = 4;

/// A store of the crate `object_store`.
#[derive(Debug)]
pub struct ObjectStore {
    /// Of a directory from the first call on that finds it.
    inner: OnceLock<Arc<dyn Inner>>,
    root: Path,
    /// Where it is one.
    directory: Option<PathBuf>,
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
    deadline: Duration,
    /// Whether it was seen that it makes an object that is there no second time.
    is_proven: Mutex<bool>,
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn other_length(key: &str, came: usize, wanted: u64) -> StoreError {
    failed("get", key, format!("{came} bytes came, not {wanted}"))
}

impl ObjectStore {
    /// Opens the store at `url`: `file:///directory`, a directory's absolute path, or `s3://bucket/prefix`. S3's access,
    /// region and endpoint are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`), or of the instance. Nothing is asked of it yet, and nothing made.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let fails = |reason: String| failed("open", url, reason);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("fastlog-store")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| fails(error.to_string()))?;
        let (inner, root, directory): (OnceLock<Arc<dyn Inner>>, Path, Option<PathBuf>) =
            if let Some(rest) = url.strip_prefix("s3://") {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(fails("it names no bucket: give s3://bucket/prefix".to_owned()));
                }
                let root = Path::parse(prefix).map_err(|error| fails(error.to_string()))?;
                (OnceLock::from(s3(bucket).map_err(fails)?), root, None)
            } else {
                let directory = FilePath::new(url.strip_prefix("file://").unwrap_or(url));
                if !directory.is_absolute() {
                    let known = "give s3://bucket/prefix, or the absolute path of a directory";
                    return Err(fails(format!("no such kind of store is known: {known}")));
                }
                (OnceLock::new(), Path::default(), Some(directory.to_owned()))
            };
        // a directory's own rules make them, by a link
        let is_proven = Mutex::new(directory.is_some());
        Ok(Self { inner, root, directory, runtime: Some(runtime), deadline: DEADLINE, is_proven })
    }

    /// The same with another time after which a request has failed.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn inner(&self, call: Call<'_>) -> Result<Arc<dyn Inner>, StoreError> {
        if let Some(inner) = self.inner.get() {
            return Ok(Arc::clone(inner));
        }
        let directory = self.directory.clone();
        let directory = directory.ok_or_else(|| failed(call.what, call.key, "it is not open"))?;
        let opened = match self.block(call, move || directory::open(&directory))? {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound { key: call.key.to_owned() });
            }
            opened => opened.map_err(|error| failed(call.what, call.key, error))?,
        };
        Ok(Arc::clone(self.inner.get_or_init(|| opened)))
    }

    /// Work on files that may hang, on a thread of its own.
    fn block<T: Send + 'static>(
        &self,
        call: Call<'_>,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<io::Result<T>, StoreError> {
        let done = self.run(async {
            let work = tokio::task::spawn_blocking(work);
            tokio::time::timeout(call.deadline, work).await.map_err(|_| call.late())
        })?;
        Ok(done.unwrap_or_else(|error| Err(io::Error::other(error))))
    }

    fn call<'a>(&self, what: &'static str, key: &'a str) -> Call<'a> {
        Call { what, key, deadline: self.deadline }
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            None => Err(failed("reach", "the store", "it is closed")),
        }
    }

    /// The same of one request.
    fn ask<T>(
        &self,
        what: &'static str,
        key: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        self.run(self.call(what, key).within(request))
    }

    fn make(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let (path, inner) = (self.path(key), self.inner(self.call("create", key))?);
        let put = inner.put_opts(&path, bytes.into(), PutMode::Create.into());
        self.ask("create", key, put).map(|_| ())
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &str) -> Result<Arc<dyn Inner>, String> {
    crate::s3::open(bucket).map_err(|error| crate::requests::with_causes(&error))
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
        let (path, call) = (self.path(key), self.call(WHAT, key));
        let inner = self.inner(call)?;
        let next = |parts: &mut dyn Iterator<Item = io::Result<Bytes>>| {
            parts.next().transpose().map_err(|error| unread(key, &error))
        };
        let first = next(parts)?.unwrap_or_default();
        if first.len() as u64 == length {
            return self.ask(WHAT, key, inner.put(&path, first.into())).map(|_| ());
        }
        self.run(async {
            let mut upload = call.within(inner.put_multipart(&path)).await?;
            let mut sent = 0;
            let mut part = Some(first);
            while let Some(bytes) = part {
                sent += bytes.len() as u64;
                let put = call.within(upload.put_part(PutPayload::from(bytes))).await;
                let after = put.and_then(|()| next(parts));
                match after {
                    Ok(bytes) => part = bytes,
                    Err(error) => {
                        call.abort(&mut *upload).await;
                        return Err(error);
                    }
                }
            }
            if sent != length {
                call.abort(&mut *upload).await;
                return Err(failed(WHAT, key, format!("{sent} bytes were given, not {length}")));
            }
            let completed = call.within(upload.complete()).await;
            if completed.is_err() {
                // where it was completed, and only the answer did not come, the object is there and stays
                call.abort(&mut *upload).await;
            }
            completed.map(|_| ())
        })
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let mut is_proven = self.is_proven.lock();
        if !*is_proven {
            probe::check_creates(|key, bytes| self.make(key, Bytes::from_static(bytes)))?;
            *is_proven = true;
        }
        drop(is_proven);
        self.make(key, bytes)
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        const WHAT: &str = "get";
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let (path, call) = (self.path(key), self.call(WHAT, key));
        let inner = self.inner(call)?;
        let wanted = range.end - range.start;
        if self.directory.is_some() {
            // in one piece: as a stream a file comes in pieces of 8 KiB, each by way of another thread
            let bytes = self.ask(WHAT, key, inner.get_range(&path, range))?;
            return if bytes.len() as u64 == wanted {
                Ok(bytes)
            } else {
                Err(other_length(key, bytes.len(), wanted))
            };
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        self.run(async {
            let got = call.within(inner.get_opts(&path, options)).await?;
            if got.range != range {
                return Err(failed(WHAT, key, format!("bytes {:?} came, not {range:?}", got.range)));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
            let mut stream = got.into_stream();
            while let Some(piece) = call.next(&mut stream).await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() as u64 > wanted {
                    return Err(failed(
                        WHAT,
                        key,
                        format!("more than the {wanted} bytes came that were asked for"),
                    ));
                }
            }
            if bytes.len() as u64 != wanted {
                return Err(other_length(key, bytes.len(), wanted));
            }
            Ok(bytes.into())
        })
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        const WHAT: &str = "look at";
        let inner = self.inner(self.call(WHAT, key))?;
        self.ask(WHAT, key, inner.head(&self.path(key))).map(|it| it.size)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        const WHAT: &str = "delete";
        let inner = self.inner(self.call(WHAT, key))?;
        match self.ask(WHAT, key, inner.delete(&self.path(key))) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            error => error,
        }
    }

    fn remove_unfinished(&self, prefix: &str) -> Result<(), StoreError> {
        // S3 does not list them: there a rule of the bucket ends them
        let Some(directory) = &self.directory else { return Ok(()) };
        let directory = directory.join(prefix);
        let call = self.call("remove unfinished files in", prefix);
        let removed = self.block(call, move || remove_staged(&directory))?;
        removed.map_err(|error| failed(call.what, prefix, error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let inner = self.inner(self.call("list", prefix))?;
        self.collect(prefix, inner.list(Some(&self.path(prefix))))
    }

    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError> {
        let (path, after) = (self.path(prefix), self.path(key));
        let inner = self.inner(self.call("list", prefix))?;
        self.collect(prefix, inner.list_with_offset(Some(&path), &after))
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        let path = directory.display().to_string();
        let call = self.call("make", &path);
        self.block(call, move || directory::make(&directory))?
            .map_err(|error| failed(call.what, &path, error))
    }

    fn stays(&self) -> Duration {
        // its mount may go at any time
        self.directory.as_ref().map_or(STAYS, |_| Duration::ZERO)
    }
}

impl ObjectStore {
    fn collect(
        &self,
        prefix: &str,
        mut stream: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> Result<Vec<Listed>, StoreError> {
        let (path, call) = (self.path(prefix), self.call("list", prefix));
        self.run(async {
            let mut listed = Vec::new();
            while let Some(meta) = call.next(&mut stream).await? {
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
