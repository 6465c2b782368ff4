//! Why a store could not do what it was asked.

use alloc::boxed::Box;
use alloc::string::String;
use core::error::Error;
use core::fmt;

/// Why storage could not do what it was asked. The replica stops: it must not say what it may forget.
#[derive(Debug)]
pub struct StorageError {
    /// What was being done, and to what.
    pub what: String,
    /// What the disk or the format said.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl StorageError {
    /// An error without a deeper cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// An error with its cause.
    pub fn caused(what: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self { what: what.into(), source: Some(Box::new(source)) }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for StorageError {}
