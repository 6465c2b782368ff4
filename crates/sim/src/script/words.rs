//! Words of scripts: how facts are printed, and how numbers, durations and liars are read.

use crate::adversary::Misconduct;
use crate::event::Fact;
use crate::step::{Who, read_duration};
use std::time::Duration;

pub(crate) fn fact_line(fact: &Fact) -> String {
    match fact {
        Fact::Executed { slot, batch, is_final: true } => format!("executed {slot:?} {batch:?}"),
        Fact::Executed { slot, batch, .. } => format!("executed {slot:?} {batch:?} for now"),
        Fact::Applied { slot, request, result } => {
            format!("applied {request:?} in {slot:?}: {result:?}")
        }
        Fact::Repeated { slot, request } => format!("repeats {request:?} in {slot:?}"),
        Fact::Committed(slot) => format!("committed {slot:?}"),
        Fact::RolledBack(slot) => format!("rolled back to {slot:?}"),
        Fact::Wrong(slot) => format!("is wrong in {slot:?}"),
        Fact::Halted(slot) => format!("halts at {slot:?}"),
        Fact::Restored(slot) => format!("restored {slot:?}"),
        Fact::Checkpoint { slot, state } => format!("checkpoint {slot:?} {state:?}"),
        Fact::Epoch(epoch, returned) => format!("begins {epoch:?}, {returned} have come back"),
        Fact::View(view, primary) => format!("installed {view:?} of {primary:?}"),
        Fact::Published(slot) => format!("shows {slot:?}"),
        Fact::Follows(id) => format!("follows {id:?}"),
        Fact::Fetches => "fetches a state".into(),
        Fact::Diverged(slot) => format!("diverged in {slot:?}"),
        Fact::Answered { request, answer } => format!("answered #{request} {answer:?}"),
        Fact::Note(note) => note.to_string(),
    }
}

pub(super) fn no_option(option: &str) -> String {
    format!("no such option: {option}")
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

pub(super) fn liar(text: &str) -> Result<(Who, Misconduct), String> {
    let (who, kind) = text.split_once(':').ok_or_else(|| no_option(text))?;
    let liar = Misconduct::named(kind).ok_or_else(|| format!("no such liar: {kind}"))?;
    Ok((who.parse()?, liar))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    read_duration(text).ok_or_else(|| format!("no duration: {text}"))
}
