//! Durable before visible.

use proptest::prelude::*;
use testudo_core::gate::Gate;

#[test]
fn what_was_said_before_any_write_passes_at_once() {
    let mut gate = Gate::new();
    assert_eq!(gate.pass("hello"), Some("hello"));
    assert!(!gate.is_waiting());
}

#[test]
fn what_rests_on_a_write_waits_for_it_and_no_longer() {
    let mut gate = Gate::new();
    let first = gate.write();
    assert_eq!(gate.pass("after first"), None);
    let second = gate.write();
    assert_eq!(gate.pass("after second"), None);
    assert_eq!(gate.durable(first).collect::<Vec<_>>(), ["after first"]);
    assert!(gate.is_waiting());
    assert_eq!(gate.durable(second).collect::<Vec<_>>(), ["after second"]);
    assert_eq!(gate.pass("later"), Some("later"));
}

#[test]
#[should_panic(expected = "a write that nobody asked for")]
fn a_disk_that_claims_more_than_it_was_asked_is_a_bug() {
    let mut gate: Gate<()> = Gate::new();
    gate.durable(1).for_each(drop);
}

proptest! {
    /// Whatever the interleaving: nothing leaves before what precedes it is durable, everything leaves, in order.
    #[test]
    fn nothing_overtakes_a_write(steps in prop::collection::vec(0_u8..3, 0..60)) {
        let mut gate = Gate::new();
        let (mut durable, mut said, mut left) = (0, 0_u64, Vec::new());
        for step in steps {
            match step {
                0 => { gate.write(); }
                1 => {
                    left.extend(gate.pass((said, gate.written())));
                    said += 1;
                }
                _ => {
                    durable = (durable + 1).min(gate.written());
                    left.extend(gate.durable(durable));
                }
            }
            prop_assert!(left.iter().all(|(_, needs)| *needs <= durable));
        }
        let last = gate.written();
        left.extend(gate.durable(last));
        prop_assert_eq!(left.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..said).collect::<Vec<_>>());
    }
}
