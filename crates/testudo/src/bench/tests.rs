//! The bench against a server that is right, and against others that are wrong in one way each.

use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::fake::{Fake, Fault};
use super::{BenchArgs, Processes, drive, report::Report, run};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn args(address: &str, flags: &str) -> BenchArgs {
    let line = format!("bench --endpoints {address} --warmup 0s --keys 20 {flags}");
    Line::try_parse_from(line.split_whitespace()).expect("flags that exist").bench
}

/// Runs all parts as [`run`] does and gives the report instead of printing it.
async fn report(args: &BenchArgs) -> Report {
    let processes = Processes::of(&[std::process::id()]).expect("this process is there");
    LocalSet::new().run_until(drive(args, &processes)).await.expect("it listens")
}

#[tokio::test]
async fn every_workload_counts_what_it_is_told_to() {
    let address = Fake::serve(Fault::None).await;
    for workload in ["put", "get", "get-serializable", "txn", "mixed"] {
        let flags = format!("--workload {workload} --operations 300 --outstanding 7");
        let report = report(&args(&address, &flags)).await;
        assert!(!report.has_errors(), "{report}");
        let json = report.json();
        assert_eq!((&json["workload"], &json["operations"]), (&workload.into(), &300.into()));
        assert_eq!(json["connections"], 7);
        // The first to swap a key does not know its revision, and learns it.
        let lost = json["lost_swaps"].as_u64().expect("a number");
        assert_eq!(lost > 0, workload == "txn");
        assert!(lost < 200, "{lost} of 300, though seven at a time seldom meet on one of 20 keys");
        assert!(json["latency_us"]["p50"].as_f64().expect("a number") > 0.0);
        assert!(report.to_string().contains("errors      0\n"), "{report}");
    }
}

#[tokio::test]
async fn keys_that_are_set_already_are_not_set_again() {
    let address = Fake::serve(Fault::None).await;
    let flags = "--workload get --operations 20 --preloaded";
    let without = report(&args(&address, flags)).await;
    assert!(without.has_errors(), "nobody has set the keys: {without}");
    let setting = report(&args(&address, "--workload get --operations 20")).await;
    assert!(!setting.has_errors(), "{setting}");
    let after = report(&args(&address, flags)).await;
    assert!(!after.has_errors(), "{after}");
}

#[tokio::test]
async fn a_window_may_be_a_time() {
    let address = Fake::serve(Fault::None).await;
    let report = report(&args(&address, "--workload put --for 50ms")).await;
    let seconds = report.json()["seconds"].as_f64().expect("a number");
    assert!((0.05..5.0).contains(&seconds), "{seconds}");
    assert!(!report.has_errors());
}

#[tokio::test]
async fn failures_are_counted_and_the_first_is_shown() {
    let address = Fake::serve(Fault::Refuses).await;
    let flags = args(&address, "--workload put --operations 20");
    let report = report(&flags).await;
    let json = report.json();
    assert_eq!((&json["operations"], &json["errors"]), (&0.into(), &20.into()));
    let text = "the server answered 8: etcdserver: too many requests";
    assert_eq!(json["first_error"], text);
    assert!(report.to_string().contains(text));
    assert_eq!(run(flags).await, Ok(ExitCode::FAILURE));

    let error = run(args(&address, "--workload get")).await.expect_err("no key can be set");
    assert!(error.contains(text), "{error}");
}

/// Forty watchers of twenty keys, each of which is put 25 times or so.
const WATCH: &str = "--workload watch --watchers 40 --operations 500 --timeout 300ms";

#[tokio::test]
async fn watchers_that_get_everything_are_well() {
    let address = Fake::serve(Fault::None).await;
    let report = report(&args(&address, &format!("{WATCH} --idle-watchers 20"))).await;
    assert!(!report.has_errors(), "{report}");
    let json = report.json();
    let watch = &json["watch"];
    assert_eq!((&watch["watchers"], &json["idle_watchers"]), (&40.into(), &20.into()));
    let puts = json["operations"].as_u64().expect("a number");
    // Each put reaches the two watchers of its key; those that end outside of the window do, too.
    assert!(watch["events"].as_u64().expect("a number") >= 2 * puts, "{watch}");
    for figure in ["delivery_us", "missing", "repeated", "altered", "unfinished_watchers"] {
        let is_there = !watch[figure].is_null();
        assert!(is_there && (figure == "delivery_us" || watch[figure] == 0), "{figure}: {watch}");
    }
    assert!(watch["delivery_us"]["p50"].as_f64().expect("a number") > 0.0);
    assert!(report.to_string().contains("complete, in order, each once"), "{report}");
    assert!(json["processes"][0]["peak_memory_bytes"].as_u64().expect("a number") > 0);
}

#[tokio::test]
async fn every_fault_of_a_watch_is_found() {
    for (fault, figure, least) in [
        (Fault::Skips, "missing", 10),
        (Fault::Stops, "unfinished_watchers", 10),
        (Fault::Repeats, "repeated", 10),
        (Fault::Alters, "altered", 10),
    ] {
        let address = Fake::serve(fault).await;
        let report = report(&args(&address, WATCH)).await;
        let found = report.json()["watch"][figure].as_u64().expect("a number");
        assert!(report.has_errors() && found >= least, "{fault:?}: {report}");
        assert!(report.to_string().contains("WRONG"), "{fault:?}: {report}");
    }
    let address = Fake::serve(Fault::Cancels).await;
    let report = report(&args(&address, WATCH)).await;
    assert!(report.has_errors(), "{report}");
    assert!(report.to_string().contains("a watch was cancelled"), "{report}");
}

/// Leases of a second, which are renewed three times in the window.
const LEASE: &str = "--workload lease --leases 40 --ttl 1 --rate 50 --for 1s";

#[tokio::test]
async fn leases_that_are_kept_are_well() {
    let address = Fake::serve(Fault::None).await;
    let report = report(&args(&address, LEASE)).await;
    assert!(!report.has_errors(), "{report}");
    let json = report.json();
    let renewals = json["lease"]["renewals"].as_u64().expect("a number");
    assert!(renewals >= 40, "{report}");
    assert!(report.to_string().contains("no lease was lost"), "{report}");
}

#[tokio::test]
async fn every_fault_of_a_lease_is_found() {
    for (fault, figure) in [(Fault::Forgets, "lost"), (Fault::Sheds, "keys_lost")] {
        let address = Fake::serve(fault).await;
        let report = report(&args(&address, LEASE)).await;
        let lost = report.json()["lease"][figure].as_u64().expect("a number");
        assert!(report.has_errors() && lost >= 40, "{fault:?}: {report}");
        assert!(report.to_string().contains("WRONG"), "{fault:?}: {report}");
    }
}

#[tokio::test]
async fn what_cannot_begin_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    for (flags, text) in [
        ("--outstanding 0", "--outstanding is 0"),
        ("--connections 0", "--connections is 0"),
        ("--keys 0", "--keys is 0"),
        ("--value-size 9999999", "--value-size is 9999999"),
        ("--workload watch --value-size 15", "--value-size is 15, and must be at least 16"),
        ("--watchers 0", "--watchers is 0"),
        ("--idle-watchers 9999999", "--idle-watchers is 9999999"),
        ("--leases 0", "--leases is 0"),
        ("--ttl 0", "--ttl is 0"),
        ("--rate 0", "--rate is 0"),
        ("--for 0s", "--for is 0"),
        ("--pids 4294967295", "/proc/4294967295/stat"),
        ("", "cannot connect to 127.0.0.1:"),
    ] {
        let line = format!("bench --endpoints {address} {flags}");
        let parsed = Line::try_parse_from(line.split_whitespace()).expect("flags that exist").bench;
        let error = run(parsed).await.expect_err(flags);
        assert!(error.contains(text), "{error}");
    }
}
