//! A node keeps the seam's promises: durable before visible, a past that is what the disk holds, work and records read
//! back as events of their own.

mod scribe;

use scribe::{Ask, Bench, FRESH, ME};
use std::time::Duration;
use testudo_core::Position;
use testudo_sim::Pending;

#[test]
fn nothing_is_seen_before_what_it_rests_on_is_durable() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Tell("free"), Ask::Persist(1), Ask::Say(1), Ask::Tell("held")]);
    bench.told(&["free"]);
    assert_eq!(bench.words_under_way(), 0);
    bench.ask(&[Ask::SayEagerly(2)]);
    assert_eq!(bench.words_under_way(), 1, "eager words do not wait");
    bench.flush();
    bench.told(&["held"]);
    assert_eq!(bench.words_under_way(), 2);
}

#[test]
fn a_flush_covers_what_was_written_before_it_began() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Persist(1), Ask::Tell("first"), Ask::Promise(3), Ask::Tell("second")]);
    bench.flush();
    bench.told(&["first"]);
    bench.flush();
    bench.told(&["second"]);
    bench.restart(0).told(&["Some(v3) None [(@0, 1)] []"]);
}

#[test]
fn a_crash_loses_the_unflushed_end_and_all_that_was_held() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Persist(1)]).flush();
    bench.ask(&[Ask::Persist(2), Ask::Promise(7), Ask::Persist(3), Ask::Say(1), Ask::Tell("lost")]);
    bench.restart(0).told(&["None None [(@0, 1)] []"]);
    bench.flush();
    assert_eq!(bench.words_under_way(), 0, "an earlier life's flush releases nothing");
    bench.ask(&[Ask::Persist(4)]).flush();
    bench.restart(0).told(&["None None [(@0, 1), (@1, 4)] []"]);
}

#[test]
fn a_crash_may_keep_the_first_few_writes() {
    let asks = [Ask::Persist(1), Ask::Promise(7), Ask::Persist(2), Ask::Tell("lost")];
    let pasts = [
        FRESH,
        "None None [(@0, 1)] []",
        "Some(v7) None [(@0, 1)] []",
        "Some(v7) None [(@0, 1), (@1, 2)] []",
    ];
    for (keep, past) in pasts.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.ask(&asks).restart(keep).told(&[past]);
    }
}

#[test]
fn forgetting_waits_for_the_snapshot_that_it_relies_on() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Persist(1), Ask::Persist(2), Ask::Persist(3)]).flush();
    bench.flush();
    bench.ask(&[Ask::Snapshot(9), Ask::Forget(2)]);
    bench.restart(0).told(&["None None [(@0, 1), (@1, 2), (@2, 3)] []"]);
    bench.ask(&[Ask::Snapshot(9), Ask::Forget(2)]).finish();
    bench.restart(0).told(&["None Some(9) [(@2, 3)] []"]);
}

#[test]
fn records_are_read_back_flushed_or_not_but_not_forgotten_ones() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Persist(5)]).flush();
    bench.ask(&[Ask::Recall(0)]).finish().told(&["recalled 0 5"]);
    bench.ask(&[Ask::Forget(1), Ask::Recall(0)]).finish().told(&[]);
    bench.ask(&[Ask::Persist(6), Ask::Recall(1)]).finish().told(&[]);
    bench.flush().told(&["recalled 1 6"]);
}

#[test]
fn work_is_done_later_and_not_for_an_earlier_life() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Work(12)]).told(&[]);
    bench.finish().told(&["squared 144"]);
    bench.ask(&[Ask::Work(13)]).restart(0).finish().told(&[FRESH]);
}

#[test]
fn a_timer_that_is_set_again_runs_once() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Timer(1), Ask::Timer(2)]);
    let timers: Vec<(u64, Duration)> = bench
        .pending
        .iter()
        .filter_map(|item| match item {
            Pending::Timer(ME, number, after) => Some((*number, *after)),
            _ => None,
        })
        .collect();
    let fired: Vec<bool> = timers.iter().map(|(number, _)| bench.world.fire(ME, *number)).collect();
    assert_eq!(fired, [false, true]);
    assert_eq!(timers[1].1, Duration::from_secs(2));
    bench.told(&["timer 1"]);
    assert!(!bench.world.fire(ME, timers[1].0), "it has run out");
}

#[test]
fn a_panic_of_a_service_is_caught_and_a_clock_may_be_years_off() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Panic]).told(&["Err(Panicked)"]);
    bench.world.set_clock(ME, -1_000);
    bench.ask(&[Ask::Clock]).told(&["1699999999000"]);
    bench.world.set_clock(ME, i64::MIN);
    bench.ask(&[Ask::Clock]).told(&["0"]);
}

#[test]
fn rot_is_found_at_the_next_start() {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Persist(1), Ask::Persist(2)]).flush();
    bench.flush();
    assert!(bench.world.rot(ME, Position(0)));
    assert!(!bench.world.rot(ME, Position(0)), "it is lost already");
    assert!(bench.world.rot_wholly(ME, Position(1)));
    let known = "Lost { position: @0, tag: Some(Other) }";
    let unknown = "Lost { position: @1, tag: None }";
    bench.restart(0).told(&[&format!("None None [] [{known}, {unknown}]")]);
}

/// Three records that are durable, and a promise.
fn written() -> Bench {
    let mut bench = Bench::new();
    bench.ask(&[Ask::Promise(1), Ask::Persist(1), Ask::Persist(2), Ask::Persist(3)]).flush();
    bench.flush();
    bench
}

#[test]
fn a_write_that_never_arrived_is_missed_if_something_came_after_it() {
    let mut bench = written();
    assert!(bench.world.lose_write(ME, Position(1)));
    bench.restart(0);
    assert_eq!(bench.world.positions(ME), [Position(0), Position(2)]);
    assert!(bench.notes.borrow().0[0].contains("@1"), "it is known to be lost");
}

#[test]
fn a_last_write_that_never_arrived_is_not_missed() {
    let mut bench = written();
    assert!(bench.world.lose_write(ME, Position(2)));
    assert!(!bench.world.replica(ME).expect("a replica").disk().is_whole());
    bench.restart(0).told(&["Some(v1) None [(@0, 1), (@1, 2)] []"]);
    bench.ask(&[Ask::Persist(4)]).flush();
    bench.restart(0).told(&["Some(v1) None [(@0, 1), (@1, 2), (@2, 4)] []"]);
    assert!(bench.world.replica(ME).expect("a replica").disk().is_whole());
}

#[test]
fn a_misdirected_write_costs_two_records() {
    let mut bench = written();
    assert!(!bench.world.misdirect(ME, Position(2), Position(2)), "that is where it belongs");
    assert!(bench.world.misdirect(ME, Position(1), Position(0)));
    bench.restart(0);
    assert_eq!(bench.world.positions(ME), [Position(2)]);
}

#[test]
fn one_copy_of_the_superblock_is_enough() {
    let mut bench = written();
    assert!(bench.world.lose_superblock_copy(ME, false));
    bench.restart(0).told(&["Some(v1) None [(@0, 1), (@1, 2), (@2, 3)] []"]);
    assert!(bench.world.lose_superblock_copy(ME, true), "it was written anew");
    assert!(bench.world.lose_superblock(ME));
    bench.restart(0).told(&["None None [(@0, 1), (@1, 2), (@2, 3)] []"]);
}

#[test]
fn a_snapshot_that_rotted_is_none_until_the_next_is_written() {
    let mut bench = written();
    assert!(!bench.world.rot_snapshot(ME), "there is none");
    bench.ask(&[Ask::Snapshot(9)]).finish();
    assert!(bench.world.rot_snapshot(ME));
    let is_whole = |bench: &Bench| bench.world.replica(ME).expect("a replica").disk().is_whole();
    assert!(!is_whole(&bench));
    bench.ask(&[Ask::Snapshot(10)]).finish();
    assert!(is_whole(&bench));
    bench.restart(0).told(&["Some(v1) Some(10) [(@0, 1), (@1, 2), (@2, 3)] []"]);
}

#[test]
fn a_disk_is_wiped_or_put_back_while_its_node_is_down() {
    let mut bench = written();
    bench.world.keep_image(ME);
    bench.ask(&[Ask::Persist(4), Ask::Promise(2)]).flush();
    assert!(!bench.world.wipe(ME), "it is in use");
    bench.world.crash(ME, 0);
    assert!(bench.world.restore_image(ME));
    bench.world.restart(ME);
    bench.told(&["Some(v1) None [(@0, 1), (@1, 2), (@2, 3)] []"]);
    bench.world.crash(ME, 0);
    assert!(bench.world.wipe(ME));
    assert!(!bench.world.restore_image(ME), "it was put back already");
    bench.world.restart(ME);
    bench.told(&[FRESH]);
}
