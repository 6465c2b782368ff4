//! Runs `tests/scripts/*.txt`: commands, and below each the answer it must get.
//!
//! A line that begins with `#` is a comment, an indented line belongs to the answer of the command above it, and any
//! other line is a command. Each file starts from an empty store. `UPDATE_GOLDEN=1` writes the answers anew.

#[path = "support/instance.rs"]
mod instance;
#[path = "support/script.rs"]
mod script;

use instance::Instance;
use script::Command;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn scripts_get_the_answers_they_show() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are scripts");
    for file in files {
        let shown = fs::read_to_string(&file).unwrap();
        let given = run(&shown);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, given).unwrap();
            continue;
        }
        for (at, (shown, given)) in shown.lines().zip(given.lines()).enumerate() {
            assert_eq!(shown, given, "{}:{}", file.display(), at + 1);
        }
        assert_eq!(shown.lines().count(), given.lines().count(), "{}", file.display());
    }
}

/// The script with the answers that it gets.
fn run(text: &str) -> String {
    let mut kv = Instance::new();
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            let answer = match script::parse(line) {
                Command::Operation(operation) => script::print(&kv.execute(&operation)),
                Command::Raw(bytes) => script::print(&kv.execute_bytes(&bytes)),
                Command::Store(settings) => {
                    kv = Instance::with(settings);
                    String::new()
                }
                Command::Pass(milliseconds) => {
                    let happened = kv.pass(milliseconds);
                    script::print_passed(&kv, happened)
                }
                Command::Changes(from) => script::print_changes(&kv, from),
            };
            out.push_str(&answer);
        }
    }
    out
}
