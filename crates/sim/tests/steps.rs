//! Steps are lines, and lines are steps.

use proptest::prelude::*;
use std::time::Duration;
use testudo_core::Position;
use testudo_sim::Misconduct;
use testudo_sim::step::{Cause, Chore, Injury, Parcel, Step, Who};

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        any::<u16>().prop_map(Who::Replica),
        any::<u16>().prop_map(Who::Twin),
        any::<u16>().prop_map(Who::Client),
        any::<u16>().prop_map(Who::Learner),
    ]
}

/// Names as messages and timers have them: words, with brackets and all, and single spaces between.
fn name() -> impl Strategy<Value = String> {
    "[a-z(){}:,/]{1,9}( [a-z0-9(){}:,/-]{1,9}){0,3}"
}

fn parcel() -> impl Strategy<Value = Parcel> {
    (who(), who(), name(), any::<bool>(), any::<u32>()).prop_map(
        |(from, to, kind, is_copy, ordinal)| {
            let kind = kind.trim_start_matches("copy of ").to_string().into();
            Parcel { from, to, kind, is_copy, ordinal }
        },
    )
}

fn injury() -> impl Strategy<Value = Injury> {
    let at = || any::<u64>().prop_map(Position);
    prop_oneof![
        at().prop_map(Injury::Record),
        at().prop_map(Injury::RecordAndTag),
        at().prop_map(Injury::Write),
        (at(), at()).prop_map(|(from, onto)| Injury::Misdirected(from, onto)),
        Just(Injury::Snapshot),
        any::<u64>().prop_map(Injury::Memory),
        any::<bool>().prop_map(Injury::SuperblockCopy),
        Just(Injury::Superblock),
        Just(Injury::Wiped),
        Just(Injury::OldImage),
    ]
}

fn about_messages() -> impl Strategy<Value = Step> {
    (parcel(), 0..5).prop_map(|(parcel, which)| match which {
        0 => Step::Deliver(parcel),
        1 => Step::Lose(parcel, Cause::Network),
        2 => Step::Lose(parcel, Cause::Choice),
        3 => Step::Duplicate(parcel),
        _ => Step::Spoil(parcel),
    })
}

fn halt() -> impl Strategy<Value = Step> {
    prop_oneof![
        who().prop_map(Step::Pause),
        (who(), any::<bool>()).prop_map(|(who, timers_first)| Step::Resume(who, timers_first)),
        (who(), any::<u32>(), any::<usize>())
            .prop_map(|(who, left, keep)| Step::Doom(who, left, keep)),
        who().prop_map(Step::Spare),
    ]
}

fn about_nodes() -> impl Strategy<Value = Step> {
    let chore = ("[a-z]{1,9}", any::<u32>())
        .prop_map(|(kind, ordinal)| Chore { kind: kind.into(), ordinal });
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        who().prop_map(Step::Start),
        (who(), any::<usize>()).prop_map(|(who, keep)| Step::Crash(who, keep)),
        (who(), name()).prop_map(|(who, timer)| Step::Fire(who, timer.into())),
        who().prop_map(Step::Flush),
        (who(), chore).prop_map(|(who, chore)| Step::Finish(who, chore)),
        who().prop_map(Step::Serve),
        (who(), injury()).prop_map(|(who, injury)| Step::Harm(who, injury)),
        who().prop_map(Step::Scrub),
        who().prop_map(Step::Image),
        (who(), any::<i64>()).prop_map(|(who, offset)| Step::Clock(who, offset)),
        (who(), any::<i32>()).prop_map(|(who, rate)| Step::Rate(who, rate)),
        halt(),
        (who(), 0..Misconduct::ALL.len())
            .prop_map(|(who, which)| Step::Corrupt(who, Misconduct::ALL[which])),
        (who(), any::<u64>(), bytes()).prop_map(|(who, ticket, ask)| Step::Ask(who, ticket, ask)),
        (who(), bytes()).prop_map(|(who, input)| Step::Input(who, input)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        about_messages(),
        about_nodes(),
        (any::<u64>(), 0..4_u32).prop_map(|(amount, unit)| {
            let nanos = (amount >> 32) * 1_000_u64.pow(unit);
            Step::At(Duration::from_nanos(nanos))
        }),
        (who(), who()).prop_map(|(from, to)| Step::Cut(from, to)),
        (who(), who()).prop_map(|(from, to)| Step::Join(from, to)),
        any::<u64>().prop_map(|nanos| Step::Timely(Duration::from_nanos(nanos))),
        Just(Step::Heal),
        proptest::collection::vec(who(), 0..5).prop_map(Step::Sides),
        any::<u32>().prop_map(Step::Upstream),
    ]
}

proptest! {
    #[test]
    fn a_printed_step_reads_back_as_itself(step in step()) {
        let line = step.to_string();
        prop_assert!(!line.contains('\n') && !line.contains('#'), "{line}");
        prop_assert_eq!(line.parse::<Step>(), Ok(step), "{}", line);
    }

    #[test]
    fn whatever_is_written_reading_it_is_harmless(line in "[a-z0-9>=' /#x.-]{0,40}") {
        if let Ok(step) = line.parse::<Step>() {
            prop_assert_eq!(step.to_string().parse::<Step>(), Ok(step));
        }
    }
}

#[test]
fn steps_read_like_scripts() {
    let reads = |line: &str| line.parse::<Step>().map(|step| step.to_string());
    for line in [
        "at 1500us",
        "deliver 0->1 prepare/3",
        "lose c1->2' copy of claim ask/1",
        "fire 0 Order(View)",
        "harm 2 misdirected 5 7",
        "clock 1 -250ms",
        "sides",
        "request l1 ticket=3 0x00ff",
    ] {
        assert_eq!(reads(line).as_deref(), Ok(line));
    }
    for line in ["deliver 0->1 prepare", "deliver 0 prepare/1", "at soon", "harm 1 wet", "crash 1"]
    {
        assert!(reads(line).is_err(), "{line}");
    }
}
