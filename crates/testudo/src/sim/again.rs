//! One seed, repeated: as it was, cut down to what it takes to fail, or drawn.

use super::flags::{Bench, Sim, to_repeat};
use super::sum;
use crate::failure::{Failure, Outcome, plain};
use crate::say;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use testudo_lab::{Replayed, Story};
use testudo_sim::shrink::Progress;
use testudo_sim::{Plan, Report, Verdict};

/// Runs the seed and shows it.
pub(super) fn run(bench: &Bench, seed: u64, flags: &Sim) -> Outcome<ExitCode> {
    let (_, plan) = bench
        .rota
        .plan(seed)
        .ok_or_else(|| Failure::refused("there is no plan with these faults"))?;
    // Whoever wants a picture learns at once that there can be none, and not after all the runs.
    let page = flags.diagram.as_deref().map(Page::open).transpose()?;
    if flags.shrink {
        return shrink(bench, seed, &plan, flags, page);
    }
    let replayed = bench.subject.replay(seed, &plan);
    show(&replayed);
    if let Some(page) = page {
        page.save(&bench.subject.draw(seed, &plan).1)?;
    }
    let Replayed { report, again, .. } = &replayed;
    if !replayed.is_same() {
        let (one, other) = (&report.audit, &again.audit);
        let what = format!("seed {seed} was {one}, and its steps done again are {other}");
        return Err(Failure::failed(what));
    }
    if report.verdict() != Verdict::Failed {
        return Ok(ExitCode::SUCCESS);
    }
    let what = report.violations.first().map(ToString::to_string).unwrap_or_default();
    let words = to_repeat(&flags.protocol, &flags.faults, flags.beyond, seed);
    Err(Failure::failed(format!(
        "seed {seed} broke {what}; `testudo sim {words} --shrink` cuts it down to what it takes"
    )))
}

/// Cuts a failing run down and prints it as a golden script.
fn shrink(
    bench: &Bench,
    seed: u64,
    plan: &Plan,
    flags: &Sim,
    page: Option<Page>,
) -> Outcome<ExitCode> {
    let is_watched = std::io::stderr().is_terminal();
    let mut tell = |progress: &Progress| {
        if is_watched {
            // Whoever watched may have left.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{progress}");
        }
    };
    let story = bench.subject.shrink(seed, plan, flags.runs, &mut tell);
    if is_watched {
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
    }
    let story = story
        .ok_or_else(|| Failure::refused(format!("seed {seed} breaks no rule to cut down to")))?;
    say::out(format_args!("{}", story.script.trim_end()));
    if let Some(page) = page {
        page.save(&picture(bench, seed, plan, &story))?;
    }
    Err(Failure::failed(format!("seed {seed} broke {}; {story}", story.violation)))
}

/// Of a story that cannot be played there is the whole run to be drawn.
fn picture(bench: &Bench, seed: u64, plan: &Plan, story: &Story) -> String {
    if story.is_playable {
        bench.subject.draw_story(story)
    } else {
        bench.subject.draw(seed, plan).1
    }
}

/// A file to draw into.
struct Page {
    path: PathBuf,
    /// Whether it holds nothing that anybody wants: it was made for the picture, and there is no picture yet.
    is_empty: bool,
}

impl Page {
    /// Sees whether there may be such a file. What it holds already stays until there is something better.
    fn open(path: &Path) -> Outcome<Self> {
        let is_empty = !path.exists();
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        file.map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), is_empty })
    }

    fn save(mut self, page: &str) -> Outcome {
        fs::write(&self.path, page).map_err(|error| cannot_write(&self.path, &error))?;
        self.is_empty = false;
        say::err(format_args!("drawn in {}", self.path.display()));
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.is_empty {
            // It is empty, and in nobody's way if it stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// That is no broken rule.
fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::refused(format!("cannot write {}: {}", path.display(), plain(error)))
}

fn show(replayed: &Replayed) {
    let Replayed { report, steps, .. } = replayed;
    say::out(format_args!("{}", report.to_string().trim_end()));
    for (name, count) in &report.counts {
        say::out(format_args!("  {count:>8} {name}"));
    }
    let same = if replayed.is_same() { "the same" } else { "not the same" };
    say::out(format_args!("{}; {steps} steps done again: {same}", word(report)));
}

/// What the run came to, in a word.
fn word(report: &Report) -> &'static str {
    sum::name(report.verdict())
}
