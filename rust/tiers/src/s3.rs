//! S3, and what speaks its protocol: HTTP and TLS, which are most of what this crate takes to compile, are for it alone.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, RetryConfig};

/// A request to which no answer came for so long has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// So often a request is tried again within a call: callers try again too, later.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// The bucket, with access, region and endpoint of the environment, or of the instance. Nothing is asked of it yet.
pub(crate) fn open(bucket: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    // An error: somebody in this process chose one before, which is as good.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let retries =
        RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
    let client = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(true);
    let built = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retries)
        // not every store that speaks the protocol can delete many at once
        .with_disable_bulk_delete(true)
        .build()?;
    Ok(Arc::new(built))
}
