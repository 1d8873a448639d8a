//! Requests to a store that have an end, and what the crate says of those that failed.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::MultipartUpload;

use crate::error::StoreError;

/// A request, or a part of one, that took so long has failed: more than what S3's own tries may take together.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn failed(what: &'static str, key: &str, reason: impl ToString) -> StoreError {
    StoreError::Failed { what, key: key.to_owned(), reason: reason.to_string() }
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

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
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

/// One call of the port.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// What is done, for messages.
    pub(crate) what: &'static str,
    /// With which object, or below which prefix.
    pub(crate) key: &'a str,
    /// How long a request of it may take.
    pub(crate) deadline: Duration,
}

impl Call<'_> {
    /// Waits for one request.
    pub(crate) async fn within<T>(
        self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(self.deadline, request).await.map_err(|_| self.late())?;
        answer.map_err(|error| of_crate(self.what, self.key, &error))
    }

    /// The next one of what comes piece by piece.
    pub(crate) async fn next<T>(
        self,
        stream: &mut BoxStream<'_, object_store::Result<T>>,
    ) -> Result<Option<T>, StoreError> {
        self.within(async { stream.next().await.transpose() }).await
    }

    /// What this leaves is left to the store's own rules for uploads that never end.
    pub(crate) async fn abort(self, upload: &mut dyn MultipartUpload) {
        if let Err(error) = self.within(upload.abort()).await {
            tracing::warn!(
                %error,
                "parts of an upload that failed may be left in the store: a rule of the bucket is to end it"
            );
        }
    }

    pub(crate) fn late(self) -> StoreError {
        failed(self.what, self.key, format!("no answer within {} s", self.deadline.as_secs_f32()))
    }
}
