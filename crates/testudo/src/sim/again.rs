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
use testudo_sim::shrink::{Progress, culprit};
use testudo_sim::{Plan, Report, Verdict};

/// Where what there is to read goes, a text of lines at a time.
type Out<'a> = &'a mut dyn FnMut(&str);

/// Runs the seed and shows it.
pub(super) fn run(bench: &Bench, seed: u64, flags: &Sim, out: Out<'_>) -> Outcome<ExitCode> {
    let (_, plan) = bench
        .rota
        .plan(seed)
        .ok_or_else(|| Failure::refused("there is no plan with these faults"))?;
    // Whoever wants a picture learns at once that there can be none, and not after all the runs.
    let page = flags.diagram.as_deref().map(Page::open).transpose()?;
    if flags.shrink {
        return shrink(bench, seed, &plan, flags, page, out);
    }
    let replayed = bench.subject.replay(seed, &plan);
    out(&shown(&replayed));
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
    let broken = culprit(report).or(report.violations.first());
    let what = broken.map(ToString::to_string).unwrap_or_default();
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
    out: Out<'_>,
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
    let story = story.ok_or_else(|| {
        Failure::refused(format!("seed {seed} has not failed, so nothing can be cut down"))
    })?;
    out(story.script.trim_end());
    if let Some(page) = page {
        page.save(&picture(bench, seed, plan, &story))?;
    }
    let mut sentence = format!("seed {seed} broke {}; {story}", story.violation);
    if story.is_playable && !story.is_told {
        let rule = story.violation.oracle;
        sentence
            .push_str(&format!(", and whoever plays them as a script does not find {rule} broken"));
    }
    Err(Failure::failed(sentence))
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

fn shown(replayed: &Replayed) -> String {
    let Replayed { report, steps, .. } = replayed;
    let mut text = report.to_string().trim_end().to_owned();
    for (name, count) in &report.counts {
        text.push_str(&format!("\n  {count:>8} {name}"));
    }
    let same = if replayed.is_same() { "the same" } else { "not the same" };
    text.push_str(&format!("\n{}; {steps} steps done again: {same}", word(report)));
    text
}

/// What the run came to, in a word.
fn word(report: &Report) -> &'static str {
    sum::name(report.verdict())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols;
    use testudo_catalog::testudo_pbft::message::Message;
    use testudo_catalog::testudo_pbft::{Pbft, Rules};
    use testudo_lab::{Rota, Subject, faults, subject};

    /// Whoever says the same vote again is convicted of it.
    #[derive(Clone, Debug)]
    enum BlamesRepetition {}

    impl Rules for BlamesRepetition {
        fn convicts(one: &Message, other: &Message) -> Option<&'static str> {
            (one.vote().is_some() && one == other).then_some("it said so twice")
        }
    }

    fn flags(seed: u64, runs: usize, diagram: Option<PathBuf>) -> Sim {
        Sim {
            protocol: protocols::DEFAULT.into(),
            seeds: None,
            time: None,
            jobs: None,
            faults: "loss,partition,one-way".into(),
            beyond: false,
            twice: false,
            shard: None,
            json: false,
            merge: Vec::new(),
            replay: Some(seed),
            shrink: runs > 0,
            runs,
            diagram,
        }
    }

    fn bench(subject: Box<dyn Subject>) -> Bench {
        let rota = Rota::standard();
        let faults =
            faults::read(&flags(0, 0, None).faults, &rota.faults()).expect("they are known");
        Bench { subject, rota: rota.limited_to(&faults), faults }
    }

    /// What the command prints, and how it ends.
    fn run_of(bench: &Bench, flags: &Sim) -> (String, Outcome<ExitCode>) {
        let mut printed = String::new();
        let seed = flags.replay.expect("a seed is asked for");
        let ended = run(bench, seed, flags, &mut |text| printed.push_str(text));
        (printed, ended)
    }

    #[test]
    fn a_seed_that_fails_is_cut_down_to_a_script_that_breaks_the_same_rule() {
        let mutant = bench(subject::<Pbft<BlamesRepetition>>());
        let fails = |seed: &u64| mutant.run(*seed, false).is_some_and(|it| !it.is_clean());
        let seed = (0..20).find(fails).expect("a seed that fails");
        let (shown, ended) = run_of(&mutant, &flags(seed, 0, None));
        let failure = ended.expect_err("it fails").to_string();
        assert!(failure.starts_with(&format!("seed {seed} broke justice")), "{failure}");
        assert!(shown.contains("VIOLATED justice") && shown.contains("again: the same"), "{shown}");

        let folder = tempfile::tempdir().expect("there is room");
        let page = folder.path().join("story.html");
        let (script, ended) = run_of(&mutant, &flags(seed, 60, Some(page.clone())));
        let failure = ended.expect_err("it fails").to_string();
        assert!(
            failure.contains("broke justice") && failure.contains("steps are left"),
            "{failure}"
        );
        assert!(!failure.contains("does not find"), "{failure}");
        assert!(script.contains("\nverdict\n---\njustice is broken: "), "{script}");
        assert!(std::fs::read_to_string(page).expect("it was drawn").contains("<svg"));

        // The right rules have not failed, and there is nothing to cut down.
        let right = bench(protocols::subject(protocols::DEFAULT).expect("it is known"));
        let (script, ended) = run_of(&right, &flags(seed, 60, None));
        let refusal = ended.expect_err("it is refused").to_string();
        assert!(script.is_empty() && refusal.contains("has not failed"), "{refusal}");
    }
}
