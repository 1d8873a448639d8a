//! How the last run on a data directory ended.
//!
//! `fastlog.run` is written when a run begins: the machine's boot id and the run's incarnation. `.kafka_cleanshutdown` is
//! written when it ends well, and removed by the next run. It counts only for the incarnation that it names, so that
//! one whose removal did not reach the disk before a power cut is no proof of anything.

use std::io;
use std::path::Path;

use uuid::Uuid;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};
use crate::recovery::LastStop;

const RUN_FILE: &str = "fastlog.run";
/// The newest form of the run file that this version reads.
const VERSION: &str = "0";
/// Kafka's name.
pub(crate) const CLEAN_FILE: &str = ".kafka_cleanshutdown";

/// A run: when the machine was started, and which run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) boot_id: String,
    pub(crate) incarnation: Uuid,
}

/// The last run, and how it ended. Without any trace of one a directory with logs (`has_logs`) is Kafka's after a
/// crash, of which nothing is known. Refused when a newer version wrote the run file: what it means by it is not known.
pub(crate) fn last(
    file_system: &dyn FileSystem,
    directory: &Path,
    has_logs: bool,
) -> Result<(LastStop, Option<Run>), LogError> {
    let path = directory.join(RUN_FILE);
    let run = atomic_file::read(file_system, &path).during("read", &path)?;
    let run = run.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if let Some(version) = run.as_deref().and_then(|text| field(text, "version:"))
        && version != VERSION
    {
        let reason = format!(
            "its {RUN_FILE} has version {version:?}, this fastlog reads up to {VERSION}; use the release that wrote it"
        );
        return Err(LogError::Refused { path: directory.to_owned(), reason });
    }
    let run = run.as_deref().and_then(parse_run);
    let clean_path = directory.join(CLEAN_FILE);
    let clean = atomic_file::read(file_system, &clean_path).during("read", &clean_path)?;
    let is_clean = clean.is_some_and(|bytes| {
        let marked = incarnation_in(&String::from_utf8_lossy(&bytes));
        match (&run, marked) {
            (Some(run), Some(marked)) => run.incarnation == marked,
            // Kafka's own marker names none; ours without a run file is not ours
            (_, marked) => marked.is_none(),
        }
    });
    let boot_id = file_system.boot_id().during("read the boot id for", directory)?;
    let last_stop = match &run {
        _ if is_clean => LastStop::Clean,
        Some(run) if run.boot_id == boot_id => LastStop::ProcessDied,
        None if !has_logs => LastStop::Clean,
        _ => LastStop::MachineDied,
    };
    Ok((last_stop, run))
}

/// Notes that a run begins; from here on the directory counts as not cleanly closed.
pub(crate) fn begin(file_system: &dyn FileSystem, directory: &Path, run: &Run) -> Result<(), LogError> {
    write_run(file_system, directory, run)?;
    let path = directory.join(CLEAN_FILE);
    match file_system.remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result
            .and_then(|()| file_system.sync_directory(directory))
            .during("remove the clean shutdown marker", path),
    }
}

pub(crate) fn write_run(file_system: &dyn FileSystem, directory: &Path, run: &Run) -> Result<(), LogError> {
    let path = directory.join(RUN_FILE);
    let text = format!("version: {VERSION}\nboot_id: {}\nincarnation: {}\n", run.boot_id, run.incarnation);
    atomic_file::replace(file_system, &path, text.as_bytes()).during("write", path)
}

/// Notes that the run ended well. Kafka reads its own two fields.
pub(crate) fn end_clean(file_system: &dyn FileSystem, directory: &Path, run: &Run) -> Result<(), LogError> {
    let path = directory.join(CLEAN_FILE);
    let text = format!(r#"{{"version":0,"brokerEpoch":-1,"incarnation":"{}"}}"#, run.incarnation);
    atomic_file::replace(file_system, &path, text.as_bytes()).during("write", path)
}

fn parse_run(text: &str) -> Option<Run> {
    (field(text, "version:")? == VERSION).then_some(())?;
    Some(Run {
        boot_id: field(text, "boot_id:")?.to_owned(),
        incarnation: Uuid::parse_str(field(text, "incarnation:")?).ok()?,
    })
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn incarnation_in(json: &str) -> Option<Uuid> {
    let (_, rest) = json.split_once(r#""incarnation":""#)?;
    Uuid::parse_str(rest.split('"').next()?).ok()
}
