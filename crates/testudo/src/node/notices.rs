//! What an operator is told of a replica as it happens, whatever is logged.

use crate::logging::NOTICE;
use crate::status::claim;
use testudo_core::{Epoch, Incarnation, Slot};
use testudo_replication::{Comeback, Difference, Fetched, Halt, Health};

/// What its health has become.
pub(super) fn health(health: Health) {
    match health {
        Health::Well => tracing::info!(target: NOTICE, "is well again"),
        Health::Behind(slot) => tracing::warn!(
            target: NOTICE,
            "is behind slot {slot}, which the others have decided; it fetches their state"
        ),
        Health::Diverged(slot) => tracing::warn!(
            target: NOTICE,
            "has a state after slot {slot} that is not what a quorum signed; its disk or memory may be failing; \
             it fetches what is right"
        ),
        Health::Halted(slot) => tracing::warn!(
            target: NOTICE,
            "has stopped at slot {slot}: no digest of its state can reach a quorum any more"
        ),
    }
}

/// That an epoch has begun, and who came back with it. `before` is how often each had come back in the epoch that was told of
/// before; empty if none was.
pub(super) fn epoch(epoch: Epoch, before: &[Incarnation], now: &[Incarnation]) {
    let returned = |(id, now): (usize, &Incarnation)| {
        let is_new = before.get(id).is_none_or(|before| before < now) && *now > Incarnation(0);
        is_new.then(|| format!("replica {id} under its voting key of incarnation {now}"))
    };
    let returned: Vec<String> = now.iter().enumerate().filter_map(returned).collect();
    let who = if returned.is_empty() { "nobody".to_owned() } else { returned.join(", ") };
    tracing::info!(target: NOTICE, "orders in epoch {epoch} from now on; came back since it was in another: {who}");
}

/// What it does to get its vote back, `words`.
pub(super) fn comeback(comeback: Comeback, words: &str) {
    match comeback {
        Comeback::NotNeeded => {
            tracing::info!(target: NOTICE, "need not ask for its vote any more");
        }
        Comeback::Follows | Comeback::Asks(_) => tracing::warn!(
            target: NOTICE,
            "has forgotten what it said, so that it may not vote under its key any more; it {words}"
        ),
        Comeback::Refused(_) | Comeback::NoKey => tracing::error!(
            target: NOTICE,
            "has forgotten what it said, so that it may not vote under its key any more; it {words}"
        ),
    }
}

/// That it has healed, and what had been wrong.
pub(super) fn healed(slot: Slot, fetched: Fetched, differing: Option<&Difference>) {
    let Fetched { nodes, bytes } = fetched;
    match differing {
        None => tracing::info!(
            target: NOTICE,
            "has healed at slot {slot}: it was behind, and fetched {bytes} bytes in {nodes} pieces"
        ),
        Some(what) => tracing::warn!(
            target: NOTICE,
            "has healed at slot {slot}, and fetched {bytes} bytes in {nodes} pieces; its own state had entries that \
             were not what a quorum signed: {what}"
        ),
    }
}

/// That it has stopped, and where results differ, as far as the others told.
pub(super) fn halted(halt: &Halt) {
    tracing::error!(target: NOTICE, "cannot go on after slot {}: {}", halt.slot, claim::Halt::of(halt).words());
}
