//! How a replica starts: from nothing, or from what it finds of its earlier lives.
//!
//! It executes its past again, through the epochs that its log knows of. Nobody is told anything meanwhile. Only when the
//! past is over is it known what waits, what it lacks, and whether it is well.

use crate::accusing::Accusations;
use crate::budget::Budgets;
use crate::checkpoint::Checkpoints;
use crate::decree::Decree;
use crate::due::Due;
use crate::epochs::{Epochs, last_of};
use crate::executor::Replicated;
use crate::followers::Followers;
use crate::forgetting::Snapshots;
use crate::healing::Healing;
use crate::intake::Extra;
use crate::judge::Judgements;
use crate::recent::Recent;
use crate::record::{Parts, Record, Start, split};
use crate::replica::{Config, Fx, Replica, lift};
use crate::rules::Rules;
use crate::serving::Serving;
use crate::snapshot::Snapshot;
use crate::status::{Event, Health};
use crate::waiting::WaitingRoom;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use testudo_contracts::{OrderConfig, OrderOutput, Ordering, Service, Waiting};
use testudo_core::{Certificate, Digest, Epoch, Past, Peer, Position, ReplicaId, Slot, Verified};
use testudo_quorum::Dissemination;

/// What a replica finds of its earlier lives.
type Found<O, S, R> = Past<
    Snapshot<<O as testudo_core::Protocol>::Snapshot>,
    <Replica<O, S, R> as testudo_core::Protocol>::Record,
>;

/// The parts that a replica begins with, each as its own past has it.
struct Roots<O: Ordering> {
    config: OrderConfig,
    quorums: Dissemination,
    epochs: Epochs<O::Record>,
    checkpoints: Checkpoints,
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    pub(crate) fn begin(
        config: Config<S>,
        me: Peer,
        past: Found<O, S, R>,
        fx: &mut Fx<'_, O, S, R>,
    ) -> Self {
        const { assert!(!O::PROFILE.speculative, "replication does not roll back") };
        let id = me.replica().expect("start: a replica's name is a replica's");
        let quorums = Dissemination::of(&config.order.membership)
            .expect("start: the membership was checked against its bound");
        let Config { order: mut config, clients, service, decree } = config;
        let genesis = Replicated::genesis(&service, &clients, &config.membership);
        let parts = split(past, S::VERSION, config.window);
        let Parts { order: snapshot, epoch, records, successions, own, start, .. } = parts;
        let Parts { promise, lost, doubtful, found, .. } = parts;
        let known = successions.get(..epoch.0 as usize).unwrap_or_default();
        config.membership = last_of(&config.membership, known);
        config.domain.epoch = config.membership.epoch;
        if config.membership.epoch > Epoch(0) {
            fx.members(config.membership.clone());
            fx.output(Event::epoch_of(&config.membership));
        }
        let has_past = start.is_some() || !records.is_empty() || !found.is_empty();
        let mut epochs = Epochs::start_in(epoch, successions, records, (promise, has_past), &lost);
        let inner = epochs.past(epoch, snapshot);
        let (order, outputs) = fx.nest(&lift(epoch), |fx| O::start(config.clone(), me, inner, fx));
        let end = Slot(order.known().0.saturating_add(config.window));
        let checkpoints = Checkpoints::new(&lost, doubtful.map_or(end, |last| last.min(end)));
        let roots = Roots { config, quorums, epochs, checkpoints };
        let mut replica = Self::rooted(id, order, (service, genesis), roots);
        let covered = start.as_ref().map(|start| (start.logged, start.pending.clone()));
        replica.take_up(start);
        replica.snapshots.find_lost(&found);
        replica.remember(own, covered.as_ref());
        replica.live_again(outputs, decree, fx);
        if has_past {
            replica.say_hello(fx);
        }
        replica.watch_epoch(fx);
        replica.heal(fx);
        replica.plan_due(fx);
        replica.settle(Vec::new(), fx);
        replica
    }

    fn rooted(
        me: ReplicaId,
        order: O,
        (service, genesis): (S, Replicated),
        roots: Roots<O>,
    ) -> Self {
        let Roots { config, quorums, epochs, checkpoints } = roots;
        Self {
            me,
            quorums,
            epochs,
            order,
            state: genesis,
            service,
            bodies: BTreeMap::new(),
            written: BTreeMap::new(),
            waiting: WaitingRoom::default(),
            judgements: Judgements::default(),
            decided: VecDeque::new(),
            checkpoints,
            serving: Serving::default(),
            recent: Recent::default(),
            followers: Followers::default(),
            snapshots: Snapshots::default(),
            health: Health::Well,
            healing: Healing::default(),
            opened_view: None,
            told: Waiting::Nothing,
            told_backlog: None,
            handed_over: None,
            due: Due::default(),
            relay_mark: 0,
            relaying: false,
            replaying: true,
            asked: me,
            needed: BTreeSet::new(),
            repeated: BTreeSet::new(),
            extra: Extra::default(),
            budgets: Budgets::default(),
            accusations: Accusations::default(),
            rules: PhantomData,
            config,
        }
    }

    /// Executes the past again, and what people have decided.
    fn live_again(
        &mut self,
        outputs: Vec<OrderOutput>,
        decree: Option<Certificate<Decree>>,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        self.settle(outputs, fx);
        self.catch_up_with_epochs(fx);
        self.settle(Vec::new(), fx);
        if let Some(decree) = decree {
            self.obey(decree, fx);
            self.settle(Vec::new(), fx);
        }
        self.replaying = false;
        self.let_in_the_unexecuted();
    }

    /// Takes up the state of a snapshot.
    fn take_up(&mut self, start: Option<Start>) {
        let Some(Start { certificate, state, logged, .. }) = start else { return };
        let state = R::take_up(state, &self.state);
        let head = state.head();
        self.snapshots.start_from(head.slot, logged);
        self.state = state.clone();
        self.checkpoints.start_from(certificate.clone());
        self.serving.serve(certificate, head, state);
    }

    /// Takes up this layer's own records, before anything of the past executes.
    fn remember(
        &mut self,
        own: Vec<(Position, Record<O::Record>)>,
        covered: Option<&(Position, Arc<BTreeSet<Digest>>)>,
    ) {
        for (position, record) in own {
            match record {
                Record::Order(..) | Record::Succession(_) => {}
                Record::Body(signed) => {
                    if let Ok(body) = Verified::replay(signed) {
                        let digest = body.digest();
                        self.written.insert(digest, position);
                        let is_covered = covered.is_some_and(|(logged, pending)| {
                            position < *logged && !pending.contains(&digest)
                        });
                        if !is_covered {
                            self.snapshots.need(position);
                            self.bodies.insert(digest, body);
                        }
                    }
                }
                Record::Executed(digest) => drop(self.written.insert(digest, position)),
                Record::Checkpointed(checkpoint) => self.checkpoints.said(&checkpoint),
                Record::Stable(certificate) => self.checkpoints.stable_before(certificate),
                Record::Halted(slot) => self.checkpoints.halted(slot),
            }
        }
        self.checkpoints.end_halt_if_over();
    }

    /// After the past has executed again: what it left unexecuted waits, in the order in which it was written.
    pub(crate) fn let_in_the_unexecuted(&mut self) {
        let mut left: Vec<_> = self.bodies.values().collect();
        left.sort_unstable_by_key(|body| self.written.get(&body.digest()));
        for body in left {
            if let Some(client) = self.config.membership.identity(body.sender()) {
                self.waiting.enter(body.digest(), client);
            }
        }
    }
}
