//! Runs and scripts of the toy, filmed.

extern crate alloc;

mod common;

use common::{Flaws, Register};
use testudo_sim::conformance::{film_seed, run_seed};
use testudo_sim::{Film, Misconduct, Plan, script};

fn stormy() -> Plan {
    Plan { clients: 3, operations: 60, ..Plan::default() }.with_liar(Misconduct::Equivocate)
}

#[test]
fn a_seed_is_drawn_as_it_runs() {
    let film = |limit: usize| {
        let reel = Film::reel(limit);
        let report = film_seed(Register::default, 3, &stormy(), &reel);
        let page = reel.borrow().to_html("Seed 3", &report.title, &report.violations);
        (report, page)
    };
    let (report, page) = film(100_000);
    assert_eq!(report.audit, run_seed(Register::default, 3, &stormy()).audit, "nobody notices");
    assert_eq!(page, film(100_000).1, "one seed is one page");
    for words in [
        ">replica that lies<",
        "lies: equivocate",
        "→ 2: store",
        "asks #5: ",
        "cut: ",
        "the network is whole again",
        ">started<",
        "still under way at the end",
        "\nstate: ",
    ] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    assert!(page.contains("All ") && !page.contains("came before"));
    // What messages say and replicas are like was looked at while they ran.
    assert!(page.contains(": query key="), "a message's fields");
    let (_, short) = film(50);
    assert!(short.contains("The last 50 events; ") && short.len() < page.len() / 4);
}

#[test]
fn what_went_wrong_stands_at_the_end() {
    let flaws = Flaws { small_quorum: true, ..Flaws::default() };
    let plan = Plan::default().with_liar(Misconduct::Stale);
    let reel = Film::reel(200);
    let found = (0..100).find_map(|seed| {
        let report = film_seed(|| Register { flaws }, seed, &plan, &reel);
        report.violations.first().cloned()
    });
    let violation = found.expect("the flaw is convicted");
    let page = reel.borrow().to_html("A flaw", "of the toy", std::slice::from_ref(&violation));
    let verdict = format!("Violated: {}", violation.oracle);
    assert_eq!(page.matches(&verdict).count(), 3, "above, at the end, and for those who listen");
}

#[test]
fn a_story_is_drawn_as_it_is_told() {
    let text = include_str!("scripts/liars.txt");
    let reel = Film::reel(500);
    let told = script::film(text, Register::default, &reel);
    assert_eq!(told, script::play(text, Register::default), "the film changes nothing");
    let page = reel.borrow().to_html("Liars", "a golden script", &[]);
    for words in ["c1 → 0: query", "a copy that the network made", ">replica that lies<"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
}
