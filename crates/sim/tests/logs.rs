//! A node over the log that production uses: what a disk does to its bytes is what it starts from.

mod scribe;

use scribe::{Ask, Bench, FRESH, ME};
use std::time::Duration;
use testudo_core::Position;
use testudo_sim::{Event, Harm, NodeId, Observer, Rng, Salvage};

/// What node 0's log found at each start, and why its disk stopped it.
#[derive(Default)]
struct Openings(Vec<Salvage>, Vec<String>);

impl Observer for Openings {
    fn observe(&mut self, _: Duration, event: &Event) {
        match event {
            Event::Opened(NodeId(0), salvage) => self.0.push(*salvage),
            Event::Failed(NodeId(0), why) => self.1.push(why.to_string()),
            _ => {}
        }
    }
}

struct Logged {
    bench: Bench,
    openings: std::rc::Rc<std::cell::RefCell<Openings>>,
}

impl Logged {
    fn new(seed: u64) -> Self {
        let mut bench = Bench::with_logs(seed);
        let openings = std::rc::Rc::<std::cell::RefCell<Openings>>::default();
        bench.world.watch(openings.clone());
        Self { bench, openings }
    }

    /// Three records, each of a flush of its own, and a promise.
    fn written(seed: u64) -> Self {
        let mut logged = Self::new(seed);
        logged.bench.ask(&[Ask::Promise(1)]).flush();
        for record in 1..=3 {
            logged.bench.ask(&[Ask::Persist(record)]).flush();
        }
        logged
    }

    /// What the log finds when the node starts once more, having lost all that was not flushed.
    fn restart(&mut self, keep: usize) -> Salvage {
        self.bench.restart(keep);
        self.openings.borrow_mut().0.pop().expect("the log was opened")
    }

    fn past(&self) -> String {
        self.bench.notes.borrow_mut().0.pop().expect("it started")
    }

    fn harm(&mut self, harm: Harm, seed: u64) -> bool {
        self.bench.world.harm(ME, harm, &mut Rng::new(seed))
    }

    fn is_right(salvage: Salvage) -> bool {
        salvage.missing + salvage.condemned + salvage.altered == 0
    }
}

const WHOLE: Salvage = Salvage {
    torn: 0,
    mended: 0,
    lost: 0,
    missing: 0,
    condemned: 0,
    altered: 0,
    may_refuse: false,
};

#[test]
fn what_was_flushed_comes_back_and_an_unfinished_write_is_torn_or_whole() {
    let (mut torn, mut kept) = (0, 0);
    for seed in 0..60 {
        let mut logged = Logged::written(seed);
        logged.bench.ask(&[Ask::Persist(4), Ask::Persist(5), Ask::Say(1)]);
        let salvage = logged.restart(0);
        assert!(Logged::is_right(salvage), "{salvage}");
        assert_eq!(salvage.lost, 0);
        let past = logged.past();
        assert!(past.starts_with("Some(v1) None [(@0, 1), (@1, 2), (@2, 3)"), "{past}");
        torn += u64::from(salvage.torn > 0);
        kept += u64::from(past.contains("(@3, 4)"));
        assert!(past.contains("(@3, 4)") || !past.contains("(@4, 5)"), "in their order: {past}");
        assert_eq!(logged.restart(0), WHOLE, "what was torn is gone");
    }
    assert!(torn > 3 && kept > 3, "{torn} were torn, and {kept} kept");
}

#[test]
fn the_first_few_writes_may_be_kept_for_certain() {
    for seed in 0..20 {
        let mut logged = Logged::written(seed);
        logged.bench.ask(&[Ask::Persist(4), Ask::Promise(7), Ask::Persist(5)]);
        assert!(Logged::is_right(logged.restart(2)));
        let past = logged.past();
        assert!(past.starts_with("Some(v7) None [(@0, 1), (@1, 2), (@2, 3), (@3, 4)"), "{past}");
    }
}

#[test]
fn a_promise_that_power_cuts_short_is_the_old_one_or_the_new_one() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut logged = Logged::written(seed);
        logged.bench.ask(&[Ask::Promise(2)]);
        assert!(Logged::is_right(logged.restart(0)));
        seen.insert(logged.past().chars().take(8).collect::<String>());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["Some(v1)", "Some(v2)"]);
}

#[test]
fn a_snapshot_that_power_cuts_short_leaves_the_one_before_it() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut logged = Logged::written(seed);
        logged.bench.ask(&[Ask::Snapshot(8), Ask::Forget(1)]).finish();
        logged.bench.ask(&[Ask::Snapshot(9), Ask::Forget(2)]);
        assert!(Logged::is_right(logged.restart(0)));
        seen.insert(logged.past().split(' ').nth(1).map(String::from));
    }
    let seen: Vec<_> = seen.into_iter().flatten().collect();
    assert_eq!(seen, ["Some(8)", "Some(9)"]);
}

#[test]
fn rot_is_named_by_its_tag_and_a_scrub_finds_it_before_the_next_start() {
    let mut logged = Logged::written(1);
    assert!(logged.bench.world.rot(ME, Position(0)));
    assert!(logged.bench.world.rot_wholly(ME, Position(1)));
    assert!(!logged.bench.world.rot(ME, Position(0)), "it is lost already");
    assert_eq!(logged.bench.world.positions(ME), [Position(2)]);
    assert_eq!(logged.bench.world.scrub(ME), 2);
    assert_eq!(logged.bench.world.scrub(ME), 0, "told once");
    assert_eq!(logged.restart(0), Salvage { lost: 2, ..WHOLE });
    let known = "Lost { position: @0, tag: Some(Other) }, Lost { position: @1, tag: None }";
    assert_eq!(logged.past(), format!("Some(v1) None [(@2, 3)] [{known}]"));
}

#[test]
fn a_write_that_never_arrived_is_missed_only_if_a_later_one_did() {
    let mut logged = Logged::written(1);
    assert!(logged.bench.world.lose_write(ME, Position(1)));
    assert_eq!(logged.restart(0), Salvage { lost: 1, ..WHOLE });
    let mut logged = Logged::written(1);
    assert!(logged.bench.world.lose_write(ME, Position(2)));
    let salvage = logged.restart(0);
    assert_eq!((salvage.lost, Logged::is_right(salvage)), (0, true));
    assert_eq!(logged.past(), "Some(v1) None [(@0, 1), (@1, 2)] []");
}

#[test]
fn a_misdirected_write_costs_two_records() {
    let mut logged = Logged::written(1);
    logged.bench.ask(&[Ask::Persist(4)]).flush();
    assert!(logged.bench.world.misdirect(ME, Position(1), Position(0)));
    assert_eq!(logged.restart(0).lost, 2);
    assert_eq!(logged.bench.world.positions(ME), [Position(2), Position(3)]);
}

#[test]
fn one_copy_of_the_superblock_is_enough_and_without_both_it_has_forgotten() {
    let mut logged = Logged::written(1);
    assert!(logged.bench.world.lose_superblock_copy(ME, false));
    assert_eq!(logged.restart(0), Salvage { mended: 1, ..WHOLE });
    assert!(logged.past().starts_with("Some(v1)"));
    assert!(logged.bench.world.lose_superblock(ME));
    let unknown = "None None [(@0, 1), (@1, 2), (@2, 3)] [Lost { position: @3, tag: None }]";
    assert_eq!(logged.restart(0), Salvage { lost: 1, ..WHOLE });
    assert_eq!(logged.past(), unknown);
    // What it promises from now on makes it remember nothing.
    logged.bench.ask(&[Ask::Promise(4)]).flush();
    assert!(Logged::is_right(logged.restart(0)));
    assert_eq!(logged.past(), unknown);
}

#[test]
fn a_rotten_snapshot_gives_way_to_the_one_before_it() {
    let mut logged = Logged::written(1);
    assert!(!logged.bench.world.rot_snapshot(ME), "there is none");
    logged.bench.ask(&[Ask::Snapshot(8)]).finish();
    logged.bench.ask(&[Ask::Snapshot(9)]).finish();
    assert!(logged.bench.world.rot_snapshot(ME));
    assert_eq!(logged.bench.world.scrub(ME), 1);
    assert!(Logged::is_right(logged.restart(0)));
    assert!(logged.past().starts_with("Some(v1) Some(8)"));
    assert!(logged.bench.world.rot_snapshot(ME), "the other one");
    assert!(Logged::is_right(logged.restart(0)));
    assert!(logged.past().starts_with("Some(v1) None"));
}

#[test]
fn disks_are_wiped_and_put_back() {
    let mut logged = Logged::written(1);
    logged.bench.world.keep_image(ME);
    logged.bench.ask(&[Ask::Persist(4), Ask::Promise(2)]).flush();
    logged.bench.world.crash(ME, 0);
    assert!(logged.bench.world.restore_image(ME));
    assert!(Logged::is_right(logged.restart(0)));
    assert_eq!(logged.past(), "Some(v1) None [(@0, 1), (@1, 2), (@2, 3)] []");
    logged.bench.world.crash(ME, 0);
    assert!(logged.bench.world.wipe(ME));
    assert!(Logged::is_right(logged.restart(0)));
    assert_eq!(logged.past(), FRESH);
}

/// Bytes that change anywhere cost what the bytes say, and nothing in silence but what looks as if it had never been written.
#[test]
fn bytes_that_change_anywhere_are_mended_or_told() {
    let harms = [Harm::FlippedBit, Harm::LostSector, Harm::ZeroedRun, Harm::UnreadableSector];
    for harm in harms {
        let (mut mended, mut told) = (0, 0);
        for seed in 0..80 {
            let mut logged = Logged::written(seed);
            logged.bench.ask(&[Ask::Snapshot(8), Ask::Persist(4)]).flush().finish();
            logged.bench.ask(&[Ask::Persist(5)]).flush();
            assert!(logged.harm(harm, seed), "something stands everywhere");
            let salvage = logged.restart(0);
            assert!(Logged::is_right(salvage), "{harm}, seed {seed}: {salvage}");
            assert!(harm != Harm::FlippedBit || salvage.lost <= 1, "a bit is in one record");
            mended += salvage.mended;
            told += salvage.lost;
            let again = logged.restart(0);
            assert!(Logged::is_right(again) && again.mended == 0, "what was mended stays so");
        }
        // One bit in the few bytes of a record is rare; `pbft`'s seeds meet it.
        let is_rare = harm == Harm::FlippedBit;
        assert!(mended > 0 && (told > 0 || is_rare), "{harm}: {mended} mended, {told} told");
    }
}

#[test]
fn a_disk_that_fails_stops_its_node_before_anything_is_said() {
    for after in 0..2 {
        let mut logged = Logged::written(after);
        assert!(logged.bench.world.fail_disk(ME, after));
        logged.bench.ask(&[Ask::Persist(4), Ask::Say(1), Ask::Tell("held")]).flush();
        assert!(!logged.bench.world.is_up(ME), "it has stopped");
        assert_eq!(logged.bench.words_under_way(), 0, "and said nothing");
        let why = logged.openings.borrow_mut().1.pop().expect("a reason");
        assert!(why.contains("disk failed"), "{why}");
        logged.bench.world.restart(ME);
        assert!(logged.bench.world.is_up(ME));
        assert!(logged.past().starts_with("Some(v1) None [(@0, 1), (@1, 2), (@2, 3)"));
    }
}

#[test]
fn a_full_disk_stops_its_node_when_it_needs_room_and_has_lost_nothing() {
    let mut logged = Logged::written(1);
    assert!(logged.bench.world.fill_disk(ME, Duration::from_secs(5)));
    logged.bench.ask(&[Ask::Persist(4)]).flush();
    assert!(logged.bench.world.is_up(ME), "there is room in the segment");
    logged.bench.ask(&[Ask::Snapshot(9)]).finish();
    assert!(!logged.bench.world.is_up(ME));
    let why = logged.openings.borrow_mut().1.pop().expect("a reason");
    assert!(why.contains("disk full"), "{why}");
    logged.bench.world.restart(ME);
    assert_eq!(logged.past(), "Some(v1) None [(@0, 1), (@1, 2), (@2, 3), (@3, 4)] []");
    logged.bench.world.advance_to(Duration::from_secs(5));
    logged.bench.ask(&[Ask::Snapshot(9)]).finish();
    assert!(logged.bench.world.is_up(ME), "there is room again");
}

#[test]
fn a_slow_disk_is_slow_for_a_while() {
    let mut logged = Logged::written(1);
    assert!(logged.bench.world.slow_disk(ME, 100, Duration::from_secs(1)));
    assert_eq!(logged.bench.world.slowness(ME), 100);
    logged.bench.world.advance_to(Duration::from_secs(1));
    assert_eq!(logged.bench.world.slowness(ME), 1);
}

#[test]
fn segments_follow_each_other_and_what_is_forgotten_goes() {
    let mut logged = Logged::written(1);
    for record in 0..200 {
        logged.bench.ask(&[Ask::Persist(record)]).flush();
    }
    logged.bench.ask(&[Ask::Snapshot(9), Ask::Forget(190)]).finish();
    logged.bench.ask(&[Ask::Persist(7)]).flush();
    assert_eq!(logged.restart(0), WHOLE);
    let positions = logged.bench.world.positions(ME);
    assert_eq!((positions.first(), positions.len()), (Some(&Position(190)), 14));
}
