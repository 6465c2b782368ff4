//! Rules of accusation and of honest speech.

use super::{Cast, Oracle};
use crate::event::Event;
use testudo_core::{Invalid, Rejection};

/// What is said of a succession that leads from another epoch than the one in which a node is, and of evidence about one that
/// it has not reached.
const ELSEWHERE: &str = "it is about another epoch";

/// No correct replica can be convicted, whoever accuses; and a correct accuser's evidence convinces third parties.
#[derive(Debug)]
pub struct Justice;

impl Oracle for Justice {
    fn name(&self) -> &'static str {
        "justice"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        let Event::Blamed { by, accused, offence, convincing } = event else { return Ok(()) };
        let name = cast.name(*by);
        if *convincing && cast.is_correct_replica(*accused) {
            return Err(format!("{name} convicts {accused:?}, which is correct, of {offence}"));
        }
        if !convincing && cast.is_correct(*by) {
            return Err(format!("{name} accuses {accused:?} of {offence} on no good evidence"));
        }
        Ok(())
    }

    fn size(&self) -> usize {
        0
    }
}

/// What a correct node says, a correct node accepts: its own verification does not refuse it.
#[derive(Debug)]
pub struct Honesty;

impl Oracle for Honesty {
    fn name(&self) -> &'static str {
        "honesty"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        let Event::Rejected(letter, why) = event else { return Ok(()) };
        // A node that is an epoch ahead or behind refuses rightly.
        let is_other_epoch = **why == *Rejection::Domain.to_string()
            || **why == *Rejection::Invalid(Invalid(ELSEWHERE)).to_string();
        if is_other_epoch
            || !cast.is_correct(letter.from)
            || !cast.is_correct(letter.to)
            || !cast.is_correct_peer(letter.sender)
        {
            return Ok(());
        }
        Err(format!(
            "{} refused {} from {}: {why}",
            cast.name(letter.to),
            letter.name,
            cast.name(letter.from)
        ))
    }

    fn size(&self) -> usize {
        0
    }
}
