//! How the command fails: one sentence on standard error, and an exit code that scripts can tell apart.

use std::fmt;
use std::path::Path;

/// What the exit code says. These numbers are part of the command's interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Something went wrong while it ran: a disk, a port, a peer.
    Failed = 1,
    /// What was asked for is refused: flags, files or data that do not fit. Trying again does not help.
    Refused = 2,
    /// `status`: the cluster can answer, but something is amiss.
    Amiss = 3,
    /// `up` and `status`: no quorum answers.
    NoQuorum = 4,
}

/// Why the command ends without having done what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// One sentence, without the program's name before it or a full stop after it.
    pub(crate) sentence: String,
    /// The code to exit with.
    pub(crate) exit: Exit,
}

/// What every subcommand comes to.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Something went wrong.
    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit: Exit::Failed }
    }

    /// What was asked for does not fit.
    pub(crate) fn refused(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit: Exit::Refused }
    }

    /// The service cannot answer.
    pub(crate) fn no_quorum(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit: Exit::NoQuorum }
    }

    /// An operation on a file failed. `doing` is a verb: "read", "write", "create".
    pub(crate) fn file(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::failed(format!("cannot {doing} {}: {}", path.display(), plain(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// An error of the operating system in words alone.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_words_in_a_sentence() {
        let error = std::io::Error::from_raw_os_error(2);
        let failure = Failure::file("read", Path::new("/no/such"), &error);
        assert_eq!(failure.to_string(), "cannot read /no/such: no such file or directory");
        assert_eq!(failure.exit, Exit::Failed);
    }
}
