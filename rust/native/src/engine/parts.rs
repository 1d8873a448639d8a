//! What the methods of the engine for Python have in common.

use super::settings::{BrokerSettings, TopicSettings};
use super::{ControlRequest, Engine, Intake, failure, to_python};
use fastlog_broker::{Broker, ControlQueue, Listener, LogManager};
use fastlog_log::{LogConfig, LogError};
use fastlog_server::Server;
use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::sync::Arc;

impl Engine {
    /// The engine of a process that runs already, on an open directory.
    #[cfg(feature = "simulation")]
    pub(crate) fn of(broker: Arc<Broker>, settings: BrokerSettings, logs: Arc<LogManager>) -> Self {
        Self { logs: Mutex::new(Some(logs)), ..Self::unopened(broker, settings) }
    }

    pub(super) fn unopened(broker: Arc<Broker>, settings: BrokerSettings) -> Self {
        let (node_id, rack) = (settings.node_id, settings.broker_rack.clone());
        let settings = Mutex::new(settings);
        Self {
            broker,
            node_id,
            rack,
            settings,
            last_config: Mutex::default(),
            logs: Mutex::new(None),
            server: Mutex::new(None),
        }
    }

    /// The settings of a topic's logs; shared with those of the topic before, where they are the same.
    pub(super) fn log_config(&self, settings: &TopicSettings) -> PyResult<Arc<LogConfig>> {
        let has_store = self.broker.tiers().is_some();
        let config = settings.log(self.settings.lock().producer_id_expiration_ms, has_store)?;
        let mut last = self.last_config.lock();
        if *last != config {
            *last = config;
        }
        Ok(last.clone())
    }

    pub(super) fn logs(&self) -> PyResult<Arc<LogManager>> {
        let logs = self.logs.lock().clone();
        logs.ok_or_else(|| failure::closed("the engine has no open data directory"))
    }

    /// Has tiered storage go by the quotas of the settings.
    pub(super) fn limit_tiers(&self) {
        let (copy, fetch) = self.settings.lock().tier_limits();
        self.broker.tiers().inspect(|tiers| tiers.set_limits(copy, fetch));
    }

    /// Runs `work` on the logs without the GIL.
    pub(super) fn with_logs<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&LogManager) -> Result<T, LogError> + Send,
    ) -> PyResult<T> {
        let logs = self.logs()?;
        py.detach(|| work(&logs)).map_err(|error| to_python(&error))
    }

    pub(super) fn drain(&self, queue: &ControlQueue, limit: usize) -> Vec<ControlRequest> {
        let taken = queue.drain(limit).into_iter();
        taken.map(|request| ControlRequest::new(self.broker.clone(), request)).collect()
    }

    pub(super) fn intake(&self, listener: Listener) -> PyResult<Intake> {
        Intake::new(self.broker.clone(), listener)
            .map_err(|error| PyOSError::new_err(format!("cannot make an intake: {error}")))
    }

    pub(super) fn server(&self) -> PyResult<Arc<Server>> {
        let mut server = self.server.lock();
        if let Some(server) = server.as_ref() {
            return Ok(server.clone());
        }
        let started = Server::start(self.broker.clone(), self.settings.lock().server())
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(server.insert(Arc::new(started)).clone())
    }
}
