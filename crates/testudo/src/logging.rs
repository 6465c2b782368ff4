//! Structured logs.
//!
//! A node that runs on its own logs to standard error. One that `up` supervises logs to a file that is bounded, and says
//! only what an operator must hear on standard error, which `up` hands on: errors, and whatever is marked as a notice.

use crate::failure::{Failure, Outcome};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// The target of events that an operator must hear of, whatever is logged: `tracing::warn!(target: NOTICE, ...)`.
pub(crate) const NOTICE: &str = "testudo::notice";

/// Bytes of a log file. Past it `log` becomes `log.1`, in the place of the one before, and another is begun.
const FILE_BYTES: u64 = 16 << 20;

fn filter(directives: &str) -> Outcome<EnvFilter> {
    EnvFilter::try_new(directives).map_err(|error| {
        Failure::refused(format!(
            "`{directives}` is nothing that --log or TESTUDO_LOG understands ({error}); \
             say error, warn, info, debug or trace"
        ))
    })
}

/// Logs to standard error.
pub(crate) fn to_stderr(directives: &str) -> Outcome {
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry()
        .with(layer.with_filter(filter(directives)?))
        .try_init()
        .map_err(|error| Failure::failed(format!("cannot start logging: {error}")))
}

/// Logs errors and notices only, to standard error: for commands whose output is theirs.
pub(crate) fn quietly(directives: &str) -> Outcome {
    // They are for children; a slip in them is told before any is started.
    filter(directives)?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false);
    tracing_subscriber::registry()
        .with(layer.with_filter(notices()))
        .try_init()
        .map_err(|error| Failure::failed(format!("cannot start logging: {error}")))
}

/// Logs to a bounded file, and errors and notices to standard error.
pub(crate) fn to_file(directives: &str, path: &Path) -> Outcome {
    let file = Rotating::open(path).map_err(|error| Failure::file("write", path, &error))?;
    let all = tracing_subscriber::fmt::layer().with_writer(file).with_ansi(false);
    let some = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_target(false);
    tracing_subscriber::registry()
        .with(all.with_filter(filter(directives)?))
        .with(some.with_filter(notices()))
        .try_init()
        .map_err(|error| Failure::failed(format!("cannot start logging: {error}")))
}

fn notices() -> Targets {
    Targets::new().with_default(LevelFilter::ERROR).with_target(NOTICE, LevelFilter::INFO)
}

/// A file that becomes another one when it is full.
#[derive(Clone)]
struct Rotating(Arc<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rotating {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, bytes) = append(path)?;
        Ok(Self(Arc::new(Mutex::new(Inner { path: path.into(), file, bytes }))))
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.bytes >= FILE_BYTES {
            let mut before = inner.path.clone().into_os_string();
            before.push(".1");
            std::fs::rename(&inner.path, before)?;
            (inner.file, inner.bytes) = append(&inner.path)?;
        }
        inner.file.write_all(bytes)?;
        inner.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).file.flush()
    }
}

impl<'a> MakeWriter<'a> for Rotating {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Rotating::open(&path).unwrap();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            log.write_all(&chunk).unwrap();
        }
        let length = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!(length("log.1"), FILE_BYTES);
        assert_eq!(length("log"), 8 << 20);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn directives_that_mean_nothing_are_refused() {
        assert!(filter("warn,testudo_runtime=debug").is_ok());
        let refusal = filter("testudo=loud").unwrap_err();
        assert!(refusal.sentence.contains("`testudo=loud`"), "{refusal}");
    }
}
