//! The clean end of the data directories.

use super::directories::has;
use super::{LogManager, at_once};
use crate::events::Level;
use fastlog_log::{LastStop, LogDir, LogError};
use std::path::Path;
use std::sync::Arc;

impl LogManager {
    /// Closes all logs and marks each directory as closed cleanly whose logs all closed well. All are tried, and the first
    /// failure is answered; again is harmless. After an unclean stop the mark is left out while a directory was not opened,
    /// and so not recovered: the next start must not trust it.
    pub fn close(&self) -> Result<(), LogError> {
        let Some(directories) = self.directories.lock().take() else { return Ok(()) };
        let closed: Vec<_> = directories.all().iter().map(|it| self.close_logs(it)).collect();
        // whoever was at it when the logs were closed is done by now
        let Ok(directories) = Arc::try_unwrap(directories) else { return Err(in_use(&self.path)) };
        let each = directories.into_all().into_iter().zip(closed);
        let marked = each.map(|(directory, closed)| if closed? { mark(directory) } else { Ok(()) });
        marked.fold(Ok(()), Result::and)
    }

    /// Whether the directory may be marked as closed cleanly.
    fn close_logs(&self, directory: &LogDir) -> Result<bool, LogError> {
        let logs = self.broker.partitions().those(|it| has(directory, it.log()));
        at_once(&logs, self.threads(), |partition| partition.log().close(true))?;
        self.write_all(directory)?;
        let is_here = |path: &Path| path.parent() == Some(directory.path());
        let unrecovered = self.found.lock().values().filter(|it| is_here(&it.path)).count();
        if directory.last_stop() == LastStop::Clean || unrecovered == 0 {
            return Ok(true);
        }
        let fields = vec![
            ("directory", directory.path().display().to_string()),
            ("partitions", unrecovered.to_string()),
        ];
        let message = "not marked as closed cleanly: directories were not recovered since the last crash";
        self.broker.events().push(Level::Warning, message, fields);
        Ok(false)
    }
}

fn mark(directory: Arc<LogDir>) -> Result<(), LogError> {
    match Arc::try_unwrap(directory) {
        Ok(directory) => directory.close_clean(),
        Err(shared) => Err(in_use(shared.path())),
    }
}

fn in_use(path: &Path) -> LogError {
    LogError::Invalid { reason: format!("{} is still in use, so it is not marked as clean", path.display()) }
}
