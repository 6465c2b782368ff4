//! Golden scripts on the toy.

extern crate alloc;

mod common;

use common::Register;
use testudo_sim::script::{check_all, play};

#[test]
fn scripts_play_as_written() {
    check_all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"), Register::default);
}

#[test]
fn a_script_without_its_printed_part_gets_one() {
    let played = play("cluster clients=0 # four of them\n\nstatus", Register::default);
    let expected = "cluster clients=0 # four of them\n---\n0 started\n1 started\n2 started\n3 started\n\n\
         status\n---\n0: nothing\n1: nothing\n2: nothing\n3: nothing\n";
    assert_eq!(played, expected);
    assert_eq!(play(&played, Register::default), played);
}
