//! Golden scripts: what is done, and everything that is said and comes of it, one line each.
//!
//! Lines that begin with `>` are commands, the others are what follows from them. With `UPDATE_GOLDEN=1` the scripts
//! are written again; the difference is for the reader to judge.

mod support;

use std::path::PathBuf;
use support::{Stage, batch};
use testudo_contracts::{OrderInput, Ordering as _};
use testudo_core::{Slot, View};

type One = Stage;

fn command(stage: &mut One, line: &str) -> Option<String> {
    let number = |word: &str| word.parse::<u64>().expect("a number");
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["propose", name] => stage.propose(name),
        ["judge", "nothing"] => stage.world.system.judges = false,
        ["judge", "everything"] => stage.world.system.judges = true,
        ["judge", view, slot, name] => {
            let (view, slot) = (View(number(view)), Slot(number(slot)));
            stage.input(OrderInput::Judged { view, slot, batch: batch(name).digest() });
        }
        ["flush", "nothing"] => stage.flushes = 0,
        ["flush", "once"] => {
            stage.flushes = 1;
            stage.run();
        }
        ["flush", "everything"] => {
            stage.flushes = usize::MAX;
            stage.run();
        }
        ["wait", oldest] => stage.wait(number(oldest)),
        ["suspect"] => stage.suspect(),
        ["stable", slot] => stage.input(OrderInput::Stable(stage.checkpoint(number(slot)))),
        ["stop"] => stage.input(OrderInput::Stop),
        ["crash"] => stage.crash(),
        ["start"] => stage.start(),
        ["state"] => {
            let replica = stage.replica();
            let (view, executed, stable) = (replica.view(), replica.executed(), replica.stable());
            return Some(format!("0 v{view} executed s{executed} stable s{stable}"));
        }
        _ => panic!("no such command: {line}"),
    }
    None
}

fn play(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name);
    let golden = std::fs::read_to_string(&path).expect("the script is there");
    let mut stage = One::new();
    stage.take_lines();
    let mut text = String::new();
    for line in golden.lines() {
        if let Some(rest) = line.strip_prefix('>') {
            text += &format!("{line}\n");
            let state = command(&mut stage, rest);
            let lines = stage.take_lines().into_iter().chain(state);
            lines.for_each(|line| text += &format!("    {line}\n"));
        } else if line.starts_with('#') || line.is_empty() {
            text += &format!("{line}\n");
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the script can be written");
    } else if text != golden {
        let mut lines = text.lines().zip(golden.lines()).enumerate();
        let (at, (found, expected)) = lines
            .find(|(_, (found, expected))| found != expected)
            .unwrap_or((golden.lines().count(), ("another end", "the end")));
        panic!("{name}, line {}:\n  expected {expected}\n  found    {found}", at + 1);
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(concat!(stringify!($name), ".txt"));
        }
    )*};
}
scripts!(normal_case, restart);
