//! What an automaton's driver is joined to: everything around it.

use crate::carrier::{Carrier, Scope};
use crate::journal::{Archivist, Journal};
use crate::letters::{Outgoing, SharedSigner};
use crate::metrics::Metrics;
use crate::voice::Keys;
use crate::work::Workers;
use std::sync::Arc;
use testudo_core::{Epoch, Evidence, Peer, Protocol};

/// What shows who the members of an epoch are to whoever knows those of the first, as the automaton knows it.
pub(crate) type Lineage<P> = Box<dyn Fn(&P, Epoch) -> Vec<u8> + Send>;

/// Everything around an automaton.
pub(crate) struct Ports<P: Protocol> {
    pub(crate) me: Peer,
    pub(crate) scope: Scope,
    pub(crate) carrier: Arc<dyn Carrier>,
    /// What it signs with until it is told who the members are.
    pub(crate) signer: SharedSigner,
    pub(crate) keys: Keys,
    pub(crate) outgoing: Option<Outgoing<P::Message>>,
    /// Without one, the automaton records nothing.
    pub(crate) disk: Option<(Journal, Archivist)>,
    pub(crate) workers: Workers<P>,
    pub(crate) outputs: Box<dyn FnMut(P::Output) + Send>,
    /// Keeps evidence, and beside it what shows who the members of its epoch are.
    pub(crate) evidence: Box<dyn FnMut(Evidence, Vec<u8>) + Send>,
    pub(crate) lineage: Lineage<P>,
    pub(crate) metrics: Arc<Metrics>,
}
