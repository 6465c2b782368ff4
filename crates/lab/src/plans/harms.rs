//! Disks and memories that come to harm, one replica after the other: each heals before the next is struck, and in the
//! end all are well and vote, with equal states. Some come back under another voting key, each in an epoch of its own.
//! [`testudo_sim::atlas`] says what is promised under which trouble.

use std::time::Duration;
use testudo_sim::upstream::Strategy;
use testudo_sim::{Climate, Disks, Harm, Misconduct, Plan, Trouble, Weather};

/// What heals by itself.
const HEALING: [Harm; 6] = [
    Harm::SuperblockCopy,
    Harm::Snapshot,
    Harm::Memory,
    Harm::Record,
    Harm::RecordAndTag,
    Harm::Misdirected,
];

/// What a replica loses its promises by, or may, so that it has to come back under another voting key.
const FORGETTING: [Harm; 4] = [Harm::LostWrite, Harm::Superblock, Harm::Wiped, Harm::OldImage];

/// What a disk does to bytes wherever they stand, and what it refuses to do for a while.
const OF_DISKS: [Harm; 6] = [
    Harm::FlippedBit,
    Harm::LostSector,
    Harm::ZeroedRun,
    Harm::FailedFlush,
    Harm::FullDisk,
    Harm::SlowDisk,
];

/// Ways of lying to whoever fetches a state.
const LIARS: [Option<Strategy>; 4] =
    [Some(Strategy::BadState), Some(Strategy::Gone), Some(Strategy::Slow), None];

/// Who lies while a replica finds out what it had said, and comes back.
const WITNESSES: [Misconduct; 4] =
    [Misconduct::Equivocate, Misconduct::Corrupt, Misconduct::Stale, Misconduct::Twins];

/// A little loss, and this harm again and again, among crashes.
fn again_and_again(harms: &[Harm]) -> Climate {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let harms = harms.iter().map(|harm| (Trouble::Harm(*harm), Duration::from_millis(1_500)));
    let crashes = [(Trouble::Crash, Duration::from_millis(3_000))];
    Climate { weather, troubles: harms.chain(crashes).collect() }
}

/// Half of the plans say what happens; in the other half it is drawn, with everything else that goes wrong.
pub(super) fn plans() -> Vec<Plan> {
    let most_records = Some(super::MOST_RECORDS);
    let base = Plan { operations: 250, clients: 3, learners: 1, heals: true, ..Plan::default() };
    let base = Plan { most_records, ..base };
    let mut plans = Vec::new();
    let every = |harms: &[Harm]| -> Vec<Trouble> {
        let others = [Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Learner];
        harms.iter().map(|harm| Trouble::Harm(*harm)).chain(others).collect()
    };
    for harm in HEALING {
        plans.push(Plan { climate: Some(again_and_again(&[harm])), ..base.clone() });
        plans.push(Plan { troubles: every(&HEALING), ..base.clone() });
        // Two faults of seven: harm beside a liar.
        let liar = Plan { f: 2, troubles: every(&[harm]), ..base.clone() };
        plans.push(liar.with_liar(Misconduct::Random));
    }
    // Who heals is told lies about the state.
    let climate = Some(again_and_again(&[Harm::Memory]));
    let learned = Plan { f: 2, climate, ..base.clone() };
    plans.extend(LIARS.map(|liar| learned.clone().with_liar(Misconduct::Upstream(liar))));
    let weather = Weather { lost_per_mille: 20, ..Weather::calm() };
    let troubles = vec![(Trouble::Helical, Duration::from_millis(4_000))];
    let climate = Some(Climate { weather, troubles });
    plans.push(Plan { climate: climate.clone(), ..base.clone() });
    let two = Plan { f: 2, climate, ..base.clone() };
    plans.push(two.with_liar(Misconduct::Equivocate));
    for (harm, liar) in FORGETTING.into_iter().zip(WITNESSES) {
        let climate = again_and_again(&[harm]);
        plans.push(Plan { climate: Some(climate.clone()), ..base.clone() });
        plans.push(Plan { troubles: every(&[harm]), f: 2, ..base.clone() });
        // Two faults of seven: somebody comes back beside a liar, who has seen it all.
        let beside = Plan { climate: Some(climate.clone()), f: 2, ..base.clone() };
        plans.extend([liar, Misconduct::Replay].map(|liar| beside.clone().with_liar(liar)));
        // Power fails everywhere, also while some are in the next epoch and others are not.
        let cut = Climate { troubles: with_blackouts(&climate), ..climate };
        let cut = Plan { climate: Some(cut), ..base.clone() };
        plans.push(cut.clone().beyond());
        plans.push(Plan { f: 2, ..cut }.with_liar(Misconduct::Random).beyond());
    }
    for harm in OF_DISKS {
        let climate = Some(again_and_again(&[harm]));
        let plan = Plan { climate, ..base.clone() };
        plans.extend([Disks::Books, Disks::Logs].map(|disks| Plan { disks, ..plan.clone() }));
        let liar = Plan { f: 2, troubles: every(&[harm]), ..base.clone() };
        plans.push(liar.with_liar(Misconduct::Random));
    }
    plans.push(Plan { troubles: every(&OF_DISKS), ..base.clone() });
    // Whoever has found disks that were thrown away speaks under the keys that were on them.
    plans.extend(FORGETTING.map(|harm| {
        let plan = Plan { f: 2, climate: Some(again_and_again(&[harm])), ..base.clone() };
        plan.with_liar(Misconduct::Thief)
    }));
    // Alone, on real disks and with everything else that goes wrong; and beside a liar.
    let bad = Harm::UnreadableSector;
    let climate = Some(again_and_again(&[bad]));
    plans.push(Plan { climate, disks: Disks::Logs, ..base.clone() });
    plans.push(Plan { troubles: every(&[bad]), disks: Disks::Logs, ..base.clone() });
    let liar = Plan { f: 2, troubles: every(&[bad]), ..base };
    plans.push(liar.with_liar(Misconduct::Random));
    plans
}

fn with_blackouts(climate: &Climate) -> Vec<(Trouble, Duration)> {
    let blackouts = (Trouble::Blackout, Duration::from_millis(2_000));
    climate.troubles.iter().copied().chain([blackouts]).collect()
}
