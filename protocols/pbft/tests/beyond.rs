//! More is wrong at a time than is promised to be survived: rules may be broken, but never in silence.

use testudo_lab::{Rota, conform, subject};
use testudo_pbft::Pbft;
use testudo_sim::conformance::Seeds;

#[test]
fn nothing_breaks_in_silence() {
    let rota = Rota::beyond();
    let seeds = Seeds::for_tests(rota.round());
    let summary = conform(&*subject::<Pbft>(), &rota, &seeds);
    println!("{summary}{:?}", summary.verdicts);
    summary.assert_clean();
}
