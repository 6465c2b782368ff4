//! The command line of the project's tools: one word, and what it needs.

use std::io;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  codegen            write crates/etcd/generated from crates/etcd/proto
  new-protocol NAME --family FAMILY
                     write protocols/NAME from the family's templates, and the lines that name it
  tidy               hold the rules of the house against the tree
  tidy --tighten     lower the ratchet of lengths to what the tree measures
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["codegen"] => codegen(),
        ["new-protocol", name, "--family", family] => new_protocol(name, family),
        ["tidy"] => tidy(),
        ["tidy", "--tighten"] => tighten(),
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
        println!("changed {name}");
    }
    if changed.is_empty() {
        println!("The generated code is up to date.");
    }
    Ok(true)
}

fn new_protocol(name: &str, family: &str) -> io::Result<bool> {
    let root = xtask::workspace_root();
    let written = xtask::new_protocol::write(&root, name, family).map_err(io::Error::other)?;
    for path in &written {
        println!("wrote {path}");
    }
    println!("Begin with protocols/{name}/README.md. Its tests: cargo test -p testudo-{name}");
    Ok(true)
}

fn tidy() -> io::Result<bool> {
    let findings = xtask::tidy::check(&xtask::workspace_root()).map_err(io::Error::other)?;
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.is_empty())
}

fn tighten() -> io::Result<bool> {
    let changed = xtask::tidy::tighten(&xtask::workspace_root()).map_err(io::Error::other)?;
    println!("{changed} lines of the ratchet changed.");
    Ok(true)
}
