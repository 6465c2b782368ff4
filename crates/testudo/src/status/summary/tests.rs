use super::*;
use crate::cluster::{Address, Replica};
use crate::status::claim::{Caught, Comeback, Disk, Healed, Transfer};
use testudo_core::{ClusterId, PublicKey};

fn cluster() -> Cluster {
    let replica = |id: u16| Replica {
        id,
        address: Address::new("127.0.0.1", 7000 + id),
        admin: None,
        identity: PublicKey([id as u8; 32]),
        voting: PublicKey([id as u8 + 100; 32]),
        liar: None,
    };
    Cluster {
        id: ClusterId([1; 16]),
        protocol: crate::protocols::DEFAULT.into(),
        faults: 1,
        demonstration: false,
        beyond: false,
        service: testudo_kv::Settings::default(),
        replicas: (0..4).map(replica).collect(),
        gateways: Vec::new(),
    }
}

fn claim(replica: u16, slots: std::ops::RangeInclusive<u64>) -> Claim {
    let slot = *slots.end();
    Claim {
        version: "0".into(),
        cluster: ClusterId([1; 16]).to_string(),
        replica,
        pid: 1,
        epoch: 0,
        view: 0,
        primary: 0,
        changing_view: false,
        slot,
        known: slot,
        executed: slots.map(|slot| At { slot, digest: format!("{slot:x}") }).collect(),
        stable: None,
        time: 0,
        waiting: 0,
        sessions: 0,
        entries: 0,
        bytes: 0,
        health: Health::Well,
        standing: Standing::Voting,
        incarnation: 0,
        comeback: Comeback::NotNeeded,
        lost_slots: 0,
        lost: Vec::new(),
        halt: None,
        transfer: None,
        healed: None,
        snapshot: 0,
        disk: Disk::default(),
        caught: Vec::new(),
    }
}

fn judge(claims: Vec<Result<Claim, String>>) -> Summary {
    Summary::of(&cluster(), claims, Vec::new()).unwrap()
}

#[test]
fn replicas_that_agree_are_well() {
    let summary = judge((0..4).map(|id| Ok(claim(id, 1..=5))).collect());
    assert_eq!(summary.verdict, Verdict::Well);
    assert_eq!(summary.agreed.slot, Some(5));
    assert_eq!(summary.agreed.view, Some((0, 0)));
    assert!(
        summary
            .rows
            .iter()
            .all(|row| matches!(&row.comparison, Comparison::Equal(at) if at.slot == 5))
    );
}

#[test]
fn a_laggard_is_compared_where_it_is() {
    let mut claims: Vec<_> = (0..4).map(|id| Ok(claim(id, 1..=9))).collect();
    claims[3] = Ok(claim(3, 1..=4));
    let summary = judge(claims);
    assert_eq!(summary.verdict, Verdict::Well);
    assert_eq!(summary.rows[3].lag, 5);
    assert!(matches!(&summary.rows[3].comparison, Comparison::Equal(at) if at.slot == 4));
}

#[test]
fn one_replica_cannot_speak_for_the_cluster() {
    let mut liar = claim(1, 1..=1_000);
    liar.view = 77;
    liar.executed[3].digest = "bad".into();
    liar.caught =
        vec![Caught { accused: 2, offence: "equivocation".into(), evidence: None, lineage: None }];
    let summary =
        judge(vec![Ok(claim(0, 1..=9)), Ok(liar), Ok(claim(2, 1..=9)), Ok(claim(3, 1..=9))]);
    assert_eq!(summary.agreed.view, Some((0, 0)));
    assert_eq!(summary.agreed.slot, Some(9));
    assert_eq!(
        summary.rows[1].comparison,
        Comparison::Differs(At { slot: 4, digest: "bad".into() })
    );
    assert!(!summary.rows[2].is_convicted(), "one accuser is not enough");
    assert_eq!(summary.verdict, Verdict::Amiss);
}

#[test]
fn two_holders_of_evidence_convict() {
    let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
    for holder in [0, 3] {
        claims[holder].caught = vec![Caught {
            accused: 2,
            offence: "equivocation".into(),
            evidence: None,
            lineage: None,
        }];
    }
    let summary = judge(claims.into_iter().map(Ok).collect());
    assert!(summary.rows[2].is_convicted());
    let json = summary.json();
    assert_eq!(json["replicas"][2]["caught"][0]["proved"], true);
    assert_eq!((&json["convicted"], &json["evidence"]), (&serde_json::json!([2]), &2.into()));
}

#[test]
fn without_a_quorum_nothing_is_answered() {
    let lost = || Err("does not answer".to_owned());
    let summary = judge(vec![Ok(claim(0, 1..=9)), lost(), Ok(claim(2, 1..=9)), lost()]);
    assert_eq!(summary.verdict, Verdict::NoQuorum);
    let summary = judge(vec![lost(), lost(), lost(), lost()]);
    assert_eq!(summary.verdict, Verdict::NoQuorum);
    assert_eq!(summary.agreed, Agreed::default());
    let mut sick = claim(3, 1..=9);
    sick.health = Health::Halted(9);
    let summary = judge(vec![Ok(claim(0, 1..=9)), Ok(claim(1, 1..=9)), lost(), Ok(sick)]);
    assert_eq!(summary.verdict, Verdict::NoQuorum);
}

#[test]
fn the_table_holds_every_replica_and_what_is_agreed() {
    let text = crate::status::table::table(&judge(vec![
        Ok(claim(0, 1..=9)),
        Err("gone".into()),
        Ok(claim(2, 1..=9)),
        Ok(claim(3, 1..=9)),
    ]));
    for what in ["primary", "unreachable: gone", "9 equal", "2 agree", "Replica unreachable: 1."] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
}

#[test]
fn what_ails_a_replica_is_named() {
    let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
    claims[1].disk = Disk { flush_ms: 120.04, ..Disk::default() };
    claims[2].disk =
        Disk { records_lost: 1, snapshots_rotten: 2, flush_ms: 0.4, ..Disk::default() };
    claims[3].health = Health::Behind(9);
    claims[3].transfer =
        Some(Transfer { target: 9, fetched_bytes: 10, bytes: 40, fetched_nodes: 1 });
    claims[0].standing = Standing::Forgotten;
    claims[3].incarnation = 2;
    claims[1].healed = Some(Healed { slot: 5, differing: Some(2), ..Healed::default() });
    let summary = judge(claims.into_iter().map(Ok).collect());
    assert_eq!(summary.verdict, Verdict::NoQuorum, "one does not vote, and one is behind");
    let text = crate::status::table::table(&summary);
    for what in [
        "well (FORGOTTEN, does not vote: follows, and fetches what it must know before it asks for its vote)",
        "Replica that has forgotten what it promised, and only follows: 0.",
        "well (healed at slot 5, 2 entries had been wrong; disk: flushes take 120 ms)",
        "well (disk: 1 record was lost, 2 snapshots were rotten)",
        "behind at slot 9, fetches the state (came back 2 times; fetched 10 bytes of a state of 40 at slot 9)",
        "Replica whose disk is slow: 1.",
        "Replica that found damage on its disk since it started: 2.",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    // One that shows no disk is asked no more of.
    let mut old = serde_json::to_value(claim(0, 1..=9)).unwrap();
    old.as_object_mut().unwrap().remove("disk");
    assert_eq!(serde_json::from_value::<Claim>(old).unwrap(), claim(0, 1..=9));
}

#[test]
fn two_histories_are_shown_as_such() {
    let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
    for liar in [1, 3] {
        for at in &mut claims[liar].executed[4..] {
            at.digest.push('f');
        }
    }
    let summary = judge(claims.into_iter().map(Ok).collect());
    assert_eq!(summary.split, Some(5));
    assert_eq!(summary.verdict, Verdict::NoQuorum);
    assert_eq!(summary.agreed.executed.as_ref().map(|at| at.slot), Some(4));
    assert!(summary.rows.iter().all(|row| !matches!(row.comparison, Comparison::Differs(_))));
    assert!(crate::status::table::table(&summary).contains("At slot 5 there are two histories"));
}

#[test]
fn evidence_that_holds_convicts_whoever_brings_it_and_no_other_does() {
    use testudo_catalog::testudo_pbft::message::{Message, Prepare};
    use testudo_core::{Encode as _, ReplicaId, Slot, Verified, View};
    let key = testudo_keys::SigningKey::from_secret(&[7; 32]);
    let mut cluster = cluster();
    cluster.replicas[2].voting = key.public();
    let domain = cluster.domain();
    let frame = |digest: &[u8]| {
        let digest = testudo_core::Digest::of(digest);
        let vote = Message::Prepare(Prepare { view: View(0), slot: Slot(3), digest });
        Verified::seal(vote, ReplicaId(2).into(), domain, &key).signed().to_bytes()
    };
    let evidence = |statements| testudo_runtime::KeptEvidence {
        evidence: testudo_core::Evidence {
            accused: ReplicaId(2),
            protocol: testudo_catalog::testudo_pbft::PBFT,
            offence: "equivocation".into(),
            statements,
        },
        lineage: Vec::new(),
    };
    for (statements, holds) in
        [(vec![frame(b"one"), frame(b"other")], true), (vec![frame(b"one"), frame(b"one")], false)]
    {
        let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
        claims[0].caught = vec![Caught::by(&evidence(statements))];
        let claims = claims.into_iter().map(Ok).collect();
        let summary = Summary::of(&cluster, claims, Vec::new()).unwrap();
        assert_eq!(summary.rows[2].is_convicted(), holds);
        assert!(summary.rows[0].claim.as_ref().unwrap().caught[0].evidence.is_none());
    }
}

/// A gateway that says this of itself.
fn gateway(standing: gateway::Standing) -> gateway::Row {
    let store = gateway::Store {
        revision: 40,
        compacted: 7,
        keys: 3,
        bytes: 300 << 20,
        quota: 1 << 30,
        is_full: false,
        leases: Some(2),
    };
    let claim = gateway::Claim {
        version: "0".into(),
        cluster: ClusterId([1; 16]).to_string(),
        gateway: 0,
        pid: 1,
        etcd: "127.0.0.1:2379".into(),
        standing,
        slot: 3,
        view: 0,
        connections: 4,
        unanswered: 0,
        store: Some(store),
    };
    gateway::Row { id: 0, claim: Ok(claim), watches: Some(11) }
}

#[test]
fn a_gateway_that_does_not_follow_is_amiss() {
    use gateway::Standing;
    let judge = |row: gateway::Row| {
        let claims = (0..4).map(|id| Ok(claim(id, 1..=5))).collect();
        Summary::of(&cluster(), claims, vec![row]).unwrap()
    };
    let shown = |summary: &Summary| crate::status::table::table(summary);
    let well = judge(gateway(Standing::Following(2)));
    assert_eq!(well.verdict, Verdict::Well);
    let json = well.json();
    assert_eq!(json["gateways"][0]["claim"]["standing"]["at"], 2);
    assert_eq!(
        (&json["gateways"][0]["lag"], &json["gateways"][0]["watches"]),
        (&2.into(), &11.into())
    );
    let text = shown(&well);
    for what in ["replica 2", "315 MB of 1GiB (29%)", "127.0.0.1:2379"] {
        assert!(text.contains(what), "{what} is not in\n{text}");
    }

    let astray = judge(gateway(Standing::Diverged(2)));
    assert_eq!(astray.verdict, Verdict::Amiss);
    let text = shown(&astray);
    assert!(text.contains("DIVERGED at slot 2, and answers nothing"), "{text}");
    assert!(text.contains("Gateway that does not follow the cluster: 0."), "{text}");

    let silent = gateway::Row { id: 0, claim: Err("does not answer".into()), watches: None };
    let silent = judge(silent);
    assert_eq!(silent.verdict, Verdict::Amiss);
    assert!(shown(&silent).contains("unreachable: does not answer"), "{}", shown(&silent));

    let mut full = gateway(Standing::Following(0));
    if let Ok(gateway::Claim { store: Some(store), .. }) = &mut full.claim {
        store.is_full = true;
    }
    assert!(shown(&judge(full)).contains("NOSPACE"));
}

#[test]
fn what_a_replica_does_to_get_its_vote_back_is_said() {
    let hour = 3_600_000;
    for (comeback, words) in [
        (Comeback::Asks { incarnation: 2 }, "asks for its vote, as incarnation 2"),
        (
            Comeback::Refused { why: "too often".into(), until: Some(20 * hour) },
            "is refused: came back 4 times in 24 h, again in 3 h 20 min",
        ),
        (
            Comeback::Refused { why: "it is convicted".into(), until: None },
            "is refused: it is convicted",
        ),
        (Comeback::NoKey, "has no voting key to come back under"),
    ] {
        let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
        claims[2].standing = Standing::Forgotten;
        claims[2].comeback = comeback.clone();
        claims[2].time = 17 * hour - 20 * 60_000 + 1;
        let json = serde_json::to_value(&claims[2]).unwrap();
        assert_eq!(serde_json::from_value::<Claim>(json).unwrap(), claims[2]);
        let summary = judge(claims.into_iter().map(Ok).collect());
        assert_eq!(summary.verdict, Verdict::Amiss);
        let text = crate::status::table::table(&summary);
        assert!(text.contains(&format!("FORGOTTEN, does not vote: {words}")), "{text}");
    }
    assert_eq!(Comeback::NotNeeded.words(0), "");
}

#[test]
fn views_are_compared_within_the_epoch_that_enough_are_in() {
    let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
    for claim in &mut claims[..2] {
        claim.epoch = 1;
    }
    (claims[2].view, claims[3].view) = (7, 7);
    claims[3].epoch = 9;
    let summary = judge(claims.into_iter().map(Ok).collect());
    assert_eq!((summary.agreed.epoch, summary.agreed.view), (Some(1), Some((0, 0))));
    assert_eq!(summary.json()["agreed"]["epoch"], 1);
}

/// Two of four have lost what they held on slot 12. As long as a view stands that matters to no one else.
#[test]
fn what_bars_every_view_is_named() {
    let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
    claims[1].lost = vec![(10, 12)];
    claims[2].lost = vec![(4, 5), (12, 390)];
    for id in [1, 2] {
        claims[id].lost_slots = claims[id].lost.iter().map(|(first, last)| last - first + 1).sum();
    }
    let standing = judge(claims.iter().cloned().map(Ok).collect());
    assert_eq!((standing.verdict, standing.barred), (Verdict::Amiss, None));
    claims.iter_mut().for_each(|claim| claim.changing_view = true);
    let stuck = judge(claims.iter().cloned().map(Ok).collect());
    assert_eq!((stuck.verdict, stuck.barred), (Verdict::NoQuorum, Some((12, 12))));
    assert_eq!(stuck.json()["barred"], serde_json::json!([12, 12]));
    let text = crate::status::table::table(&stuck);
    for what in ["No quorum can be had", "on slot 12", "`testudo recover`"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    // Each slot has a quorum that knows of it.
    claims[2].lost = vec![(13, 390)];
    let helical = judge(claims.into_iter().map(Ok).collect());
    assert_eq!((helical.verdict, helical.barred), (Verdict::Amiss, None));
}

#[test]
fn where_results_part_stays_to_be_seen() {
    let digest = |word: &[u8]| testudo_core::Digest::of(word);
    let others = [(0, b"x"), (2, b"y"), (3, b"x")];
    let others = others.map(|(id, word)| (testudo_core::ReplicaId(id), digest(word))).to_vec();
    let halt = testudo_replication::Halt {
        slot: testudo_core::Slot(9),
        first: Some(testudo_core::Slot(7)),
        own: digest(b"x"),
        others,
    };
    let mut claims: Vec<_> = (0..4).map(|id| claim(id, 1..=9)).collect();
    for claim in &mut claims {
        claim.health = Health::Halted(9);
    }
    claims[1].halt = Some(super::super::claim::Halt::of(&halt));
    let claims = claims.into_iter().map(super::super::claim::Claim::cleaned);
    let summary = judge(claims.map(Ok).collect());
    assert_eq!(summary.verdict, Verdict::NoQuorum);
    let shown = &summary.json()["replicas"][1]["claim"]["halt"];
    assert_eq!(shown["first"], 7);
    assert_eq!(shown["others"]["2"], digest(b"y").to_string());
    let text = crate::status::table::table(&summary);
    for what in [
        "results part at slot 7, where it has others than replica 2, like replicas 0 and 3",
        "halted at slot 9",
        "So many have halted",
        "`testudo recover`",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    let states = testudo_replication::Halt { first: None, others: Vec::new(), ..halt };
    assert!(super::super::claim::Halt::of(&states).words().contains("only states differ"));
}
