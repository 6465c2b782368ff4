//! Who orders: coming back under a new key, how often, and who never does; and the proofs that lead from epoch to epoch.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use testudo_contracts::{Checkpoint, StableCheckpoint};
use testudo_core::{
    Base, Context, Decode, Digest, Domain, Encode, Epoch, FaultModel, Incarnation, Member,
    Membership, PublicKey, ReplicaId, Signature, Slot, Time, Verifier, limits,
};
use testudo_replication::members::{Configuration, Refusal};
use testudo_replication::sessions::System;
use testudo_replication::{Ground, Head, Readmission, Replicated, Succession};
use testudo_state::RangeProof;

const HOUR: u64 = 60 * 60 * 1000;

fn key(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

/// Four replicas: identities 200 and on, first voting keys 100 and on.
fn founders() -> Membership {
    let member = |id: u8| Member {
        identity: key(200 + id),
        voting: key(100 + id),
        incarnation: Incarnation(0),
    };
    Membership::first((0..4).map(member).collect(), FaultModel::byzantine(1))
}

fn system() -> System {
    System::genesis(&BTreeSet::new(), &founders())
}

fn asks(epoch: u64, incarnation: u64, voting: u8) -> Readmission {
    Readmission { epoch: Epoch(epoch), incarnation: Incarnation(incarnation), voting: key(voting) }
}

#[test]
fn whoever_comes_back_begins_an_epoch_under_a_key_that_nobody_has_used() {
    let mut system = system();
    let refusals = [
        (1, asks(1, 1, 1), Refusal::Epoch),
        (9, asks(0, 1, 1), Refusal::Stranger),
        (1, asks(0, 0, 1), Refusal::Incarnation),
        (1, asks(0, 2, 1), Refusal::Incarnation),
        (1, asks(0, 1, 101), Refusal::UsedKey),
        (1, asks(0, 1, 103), Refusal::UsedKey),
        (1, asks(0, 1, 202), Refusal::UsedKey),
    ];
    let before = system.digest();
    for (id, asked, refusal) in refusals {
        assert_eq!(system.readmit(ReplicaId(id), &asked, Time(0)), Err(refusal));
        assert_eq!(system.digest(), before, "a refusal changes nothing");
    }
    assert_eq!(system.readmit(ReplicaId(1), &asks(0, 1, 1), Time(0)), Ok(()));
    assert_eq!(system.epoch(), Epoch(1));
    let Configuration { epoch, members } = system.configuration();
    let keys: Vec<_> =
        members.iter().map(|one| (one.member.voting, one.member.incarnation.0)).collect();
    let expected = [(key(100), 0), (key(1), 1), (key(102), 0), (key(103), 0)];
    assert_eq!((epoch, &keys[..]), (Epoch(1), &expected[..]));
    assert_eq!(system.readmit(ReplicaId(2), &asks(1, 1, 101), Time(0)), Err(Refusal::UsedKey));
}

#[test]
fn coming_back_is_rationed_each_for_itself_and_the_ration_renews() {
    let mut system = system();
    let most = limits::READMISSIONS as u64;
    for time in 0..most {
        let asked = asks(time, time + 1, time as u8);
        assert_eq!(system.readmit(ReplicaId(3), &asked, Time(time * HOUR)), Ok(()));
    }
    let next = asks(most, most + 1, 50);
    let again = Time(limits::READMISSION_PERIOD.as_millis() as u64);
    let refused = system.may_readmit(ReplicaId(3), &next, Time(again.0 - 1));
    assert_eq!(refused, Err(Refusal::Ration(again)));
    assert_eq!(system.may_readmit(ReplicaId(3), &next, again), Ok(()));
    assert_eq!(system.may_readmit(ReplicaId(2), &asks(most, 1, 50), Time(most * HOUR)), Ok(()));
}

#[test]
fn a_conviction_outlives_everything() {
    let mut system = system();
    assert!(system.convict(ReplicaId(2)), "the first time something changes");
    assert!(!system.convict(ReplicaId(2)) && !system.convict(ReplicaId(9)));
    assert_eq!(system.epoch(), Epoch(0), "a conviction begins no epoch");
    assert_eq!(system.readmit(ReplicaId(2), &asks(0, 1, 1), Time(0)), Err(Refusal::Convicted));
    assert_eq!(system.readmit(ReplicaId(1), &asks(0, 1, 1), Time(0)), Ok(()));
    let late = Time(u64::MAX);
    assert_eq!(system.readmit(ReplicaId(2), &asks(1, 1, 2), late), Err(Refusal::Convicted));
    assert!(system.is_convicted(ReplicaId(2)) && !system.is_convicted(ReplicaId(1)));
}

proptest! {
    /// Against a model that keeps every return there ever was.
    #[test]
    fn readmission_is_what_the_model_says(
        steps in prop::collection::vec((0_u16..5, 0_u64..4, 0_u8..30, 0_u64..20, any::<bool>()), 1..60)
    ) {
        let mut system = system();
        let mut returns: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        let mut used: BTreeSet<u8> = (100..104).collect();
        let (mut epoch, mut now, mut convicted) = (0, 0, BTreeSet::new());
        for (id, skip, voting, hours, convicts) in steps {
            now += hours * HOUR;
            if convicts && hours == 7 {
                system.convict(ReplicaId(id));
                convicted.insert(id);
            }
            let count = returns.get(&id).map_or(0, Vec::len) as u64;
            let asked = asks(epoch, count + skip, voting);
            let period = limits::READMISSION_PERIOD.as_millis() as u64;
            let of_late = returns.get(&id).map_or(0, |all| {
                all.iter().filter(|at| **at + period > now).count()
            });
            let may = id < 4
                && skip == 1
                && !used.contains(&voting)
                && !convicted.contains(&id)
                && of_late < limits::READMISSIONS;
            prop_assert_eq!(system.readmit(ReplicaId(id), &asked, Time(now)).is_ok(), may);
            if may {
                epoch += 1;
                used.insert(voting);
                returns.entry(id).or_default().push(now);
            }
            prop_assert_eq!(system.epoch(), Epoch(epoch));
            let held = system.configuration().members.iter().all(|one| {
                one.returns.len() <= limits::READMISSIONS
            });
            prop_assert!(held, "returns are kept without bound");
        }
    }
}

/// Takes every signature for right.
struct Anything;

impl Verifier for Anything {
    fn check(&self, _: &PublicKey, _: &Digest, _: &Signature) -> bool {
        true
    }
}

/// A state whose last slot has ended the first epoch, and a certificate of it that these have signed.
fn ended(signers: &[u16]) -> (Replicated, StableCheckpoint) {
    struct Nothing;
    impl testudo_contracts::Service for Nothing {
        const VERSION: u32 = 1;
        fn genesis(&self, _: &mut dyn testudo_contracts::Store) {}
        fn execute(
            &self,
            _: &mut dyn testudo_contracts::Store,
            _: &[u8],
            _: &testudo_contracts::Moment,
        ) -> Vec<u8> {
            Vec::new()
        }
        fn internal_error(&self) -> Vec<u8> {
            Vec::new()
        }
        fn too_large(&self) -> Vec<u8> {
            Vec::new()
        }
    }
    let mut state = Replicated::genesis(&Nothing, &BTreeSet::new(), &founders());
    state.slot = Slot(7);
    state.system.readmit(ReplicaId(1), &asks(0, 1, 1), Time(0)).expect("it may");
    let certificate = certify(&state, signers);
    (state, certificate)
}

/// The checkpoint of this state with these signatures: what each looks like matters to nobody here.
fn certify(state: &Replicated, signers: &[u16]) -> StableCheckpoint {
    let statement = Checkpoint { slot: state.slot, state: state.digest() };
    let proofs: BTreeMap<ReplicaId, Signature> =
        signers.iter().map(|id| (ReplicaId(*id), Signature([*id as u8; 64]))).collect();
    let bytes = [statement.to_bytes(), proofs.to_bytes()].concat();
    StableCheckpoint::from_bytes(&bytes).expect("well-formed")
}

fn check(succession: &Succession, members: &Membership) -> Result<Membership, &'static str> {
    let domain = Domain { epoch: members.epoch, ..Domain::default() };
    let context = Context { domain, membership: members, verifier: &Anything };
    succession.check(&context).map_err(|invalid| invalid.0)
}

#[test]
fn a_succession_leads_from_one_membership_to_the_next() {
    let (state, certificate) = ended(&[0, 2, 3]);
    let succession = Succession::of(Epoch(0), certificate, &state);
    let next = check(&succession, &founders()).expect("right");
    assert_eq!((next.epoch, next.n()), (Epoch(1), 4));
    assert_eq!(next.base, Base { slot: Slot(7), state: state.digest() });
    assert_eq!(next.member(ReplicaId(1)).map(|one| one.voting), Some(key(1)));
    let before = next.before.clone().expect("the epoch before is known");
    assert_eq!(*before, founders());
    assert_eq!(Succession::from_bytes(&succession.to_bytes()), Ok(succession));
}

#[test]
fn what_is_no_succession_leads_nowhere() {
    let (state, certificate) = ended(&[0, 2, 3]);
    let right = Succession::of(Epoch(0), certificate, &state);
    let of = |change: &dyn Fn(&mut Succession)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        check(&wrong, &founders()).expect_err("wrong")
    };
    let few = "a certificate has too few signatures";
    type Parts<'a> = (&'a mut StableCheckpoint, &'a mut Head, &'a mut RangeProof);
    let part = |change: &dyn Fn(Parts<'_>)| {
        of(&|it| {
            if let Ground::Executed { certificate, head, members } = &mut it.ground {
                change((certificate, head, members));
            }
        })
    };
    assert_eq!(part(&|it| *it.0 = certify(&state, &[0, 3])), few);
    assert_eq!(of(&|it| it.from = Epoch(1)), "it is about another epoch");
    let head = "a head is not what its certificate says";
    assert_eq!(part(&|it| it.1.slot = Slot(8)), head);
    assert_eq!(part(&|it| it.1.system = Digest::ZERO), head);
    // The members of another state, however well proved.
    let other = system();
    let proof = "a proof of the members proves nothing";
    assert_eq!(part(&|it| *it.2 = other.map().prove_key(b"e")), proof);
    // A proof that holds, of something else.
    assert_eq!(part(&|it| *it.2 = state.system.map().prove_key(b"c")), proof);

    // A state that ends no epoch, or another one.
    let mut idle = state.clone();
    idle.system = system();
    let same = Succession::of(Epoch(0), certify(&idle, &[0, 2, 3]), &idle);
    assert_eq!(check(&same, &founders()), Err("a state does not end its epoch"));
    let next = check(&right, &founders()).expect("right");
    assert_eq!(check(&right, &next), Err("it is about another epoch"));
}
