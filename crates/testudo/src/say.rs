//! Speaking to people. Whoever listened may have left (`testudo status | head -1`), which is no reason to panic, as
//! the standard macros would.

use std::fmt::Arguments;
use std::io::Write as _;

/// A line on standard output.
pub(crate) fn out(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line on standard error, after the program's name.
pub(crate) fn err(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "testudo: {line}");
}
