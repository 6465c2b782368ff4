//! The command line of the project's tools: one word, and what it needs.

use std::io;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  codegen    write crates/etcd/generated from crates/etcd/proto
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["codegen"] => codegen(),
        ["help" | "--help" | "-h"] | [] => {
            print!("{USAGE}");
            Ok(true)
        }
        _ => {
            eprint!("There is no such command: {}\n\n{USAGE}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn codegen() -> io::Result<bool> {
    let changed = xtask::codegen::write(&xtask::workspace_root())?;
    for name in &changed {
        println!("wrote {name}");
    }
    if changed.is_empty() {
        println!("The generated code is up to date.");
    }
    Ok(true)
}
