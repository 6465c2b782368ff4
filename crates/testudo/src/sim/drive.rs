//! Runs seeds, on as many threads as there are jobs.

use super::flags::{Bench, Sim, Span, rota};
use super::progress::Progress;
use super::sum::{Question, Sum, build};
use crate::failure::{Failure, Outcome};
use crate::signals::Signals;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use testudo_sim::Report;
use testudo_sim::oracle::Violation;
use testudo_sim::report::REPEATABLE;

/// What threads are called in which a replica may panic: that is a finding, and told as such.
const WORKER: &str = "simulation";

/// How often people are told how far it is.
const TICK: Duration = Duration::from_millis(200);

/// Runs all seeds that were asked for, or as many as there is time for.
pub(super) fn run(bench: &Bench, flags: &Sim) -> Outcome<Sum> {
    let whole = flags.span();
    let span = flags.shard.map_or(whole, |shard| whole.part(shard));
    let jobs = flags.jobs.map_or_else(processors, u64::from).min(span.len().max(1));
    let mut sum = Sum::new(question(bench, flags)?);
    sum.seeds = flags.time.is_none().then_some(whole);
    sum.shard = flags.shard;
    sum.jobs = jobs;
    let stop = interrupts()?;
    keep_quiet();
    let began = Instant::now();
    let work = Work {
        bench,
        next: AtomicU64::new(span.from),
        span,
        deadline: flags.time.map(|time| began + time),
        twice: flags.twice,
        stop: &stop,
    };
    let mut progress = Progress::new(span, flags.time);
    let (results, arrived) = mpsc::channel();
    let started = thread::scope(|scope| {
        for _ in 0..jobs {
            let (results, work) = (results.clone(), &work);
            let worker = thread::Builder::new().name(WORKER.into());
            worker.spawn_scoped(scope, move || work.run(&results)).map_err(|error| {
                stop.store(true, Ordering::Relaxed);
                Failure::failed(format!("cannot start a thread: {error}"))
            })?;
        }
        drop(results);
        loop {
            match arrived.recv_timeout(TICK) {
                Ok(report) => sum.add(&report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress.show(&sum, began.elapsed());
        }
        Ok(())
    });
    progress.clear();
    started?;
    sum.wall_milliseconds = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    sum.interrupted = stop.load(Ordering::Relaxed);
    Ok(sum)
}

/// What is asked, and of which program.
fn question(bench: &Bench, flags: &Sim) -> Outcome<Question> {
    let names: Vec<String> = bench.faults.iter().map(|fault| fault.name()).collect();
    let faults = if bench.faults == rota(&*bench.subject, flags.beyond).faults() {
        "all".to_owned()
    } else if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    };
    Ok(Question {
        version: env!("CARGO_PKG_VERSION").into(),
        build: build()?,
        protocol: flags.protocol.clone(),
        faults,
        beyond: flags.beyond,
        twice: flags.twice,
    })
}

/// What all threads share.
struct Work<'a> {
    bench: &'a Bench,
    next: AtomicU64,
    span: Span,
    deadline: Option<Instant>,
    twice: bool,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    /// Runs one seed after the other until there is none, or no time left, or somebody wants an end.
    fn run(&self, results: &Sender<Report>) {
        while !self.stop.load(Ordering::Relaxed)
            && self.deadline.is_none_or(|deadline| Instant::now() < deadline)
        {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.span.to {
                return;
            }
            // Nobody waits for results once the threads are all that is left.
            if let Some(report) = self.bench.run(seed, self.twice)
                && results.send(report).is_err()
            {
                return;
            }
        }
    }
}

impl Bench {
    /// Runs a seed; twice, to see whether it is one run.
    pub(super) fn run(&self, seed: u64, twice: bool) -> Option<Report> {
        let (_, plan) = self.rota.plan(seed)?;
        let mut report = self.subject.run(seed, &plan);
        if twice {
            let again = self.subject.run(seed, &plan);
            if again.audit != report.audit {
                let what = format!("it was {} and then {}", report.audit, again.audit);
                report.violations.push(Violation { oracle: REPEATABLE, at: report.time, what });
            }
        }
        Some(report)
    }
}

fn processors() -> u64 {
    thread::available_parallelism().map_or(1, NonZero::get) as u64
}

/// Becomes true when somebody wants an end. Whoever wants it twice gets it at once.
fn interrupts() -> Outcome<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::catch()?
    };
    let told = stop.clone();
    let wait = move || {
        runtime.block_on(async {
            signals.next().await;
            told.store(true, Ordering::Relaxed);
            signals.next().await;
            std::process::exit(1)
        })
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    Ok(stop)
}

/// What panics in a simulation is caught and reported with its seed; other panics are told as ever.
fn keep_quiet() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(WORKER) {
            tell(panic);
        }
    }));
}
