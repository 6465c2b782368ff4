//! What people are told before they decide, and after.

use super::stop::{Parting, Stop};
use super::survey::Finding;
use super::verdict::{Loss, Proposal, Verdict};
use crate::cli;
use crate::words;
use comfy_table::{Table, presets};
use std::fmt::Write as _;
use std::path::Path;
use testudo_core::Slot;
use testudo_replication::Decree;
use testudo_runtime::peek::Memory;

/// Digits of a key that are shown.
const DIGITS: usize = 16;

/// What each replica's folder holds.
pub(crate) fn table(verdict: &Verdict) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "replica",
        "superblock",
        "epoch",
        "executed",
        "certified beyond",
        "what it can do",
    ]);
    for (id, row) in verdict.rows.iter().enumerate() {
        table.add_row(match row {
            Some(finding) => cells(verdict, finding),
            None => {
                let none = || "-".to_owned();
                let what = "not at hand: its folder or key file was not given".to_owned();
                [id.to_string(), none(), none(), none(), none(), what]
            }
        });
    }
    table.trim_fmt()
}

fn cells(verdict: &Verdict, finding: &Finding) -> [String; 6] {
    let superblock = match finding.memory {
        Memory::There => "there",
        Memory::Lost => "lost",
        Memory::Empty => "folder empty",
    };
    let certified = match finding.certified.last() {
        None => "-".to_owned(),
        Some((last, ..)) => format!("up to {last}"),
    };
    let is_empty = finding.memory == Memory::Empty;
    let or_none = |text: String| if is_empty { "-".to_owned() } else { text };
    [
        finding.id.to_string(),
        superblock.to_owned(),
        or_none(finding.epoch.to_string()),
        or_none(finding.slot.to_string()),
        certified,
        ability(verdict, finding),
    ]
}

fn ability(verdict: &Verdict, finding: &Finding) -> String {
    let what = match (verdict.may_vote(finding), finding.memory, finding.has_key) {
        (true, ..) if finding.is_named => "votes under a new key in the latest epoch",
        (true, ..) => "knows what it has promised",
        (false, Memory::There, false) => "has lost the key that it votes with",
        (false, Memory::There, true) => "has found out that it forgot what it promised",
        (false, ..) => "has lost what it has promised",
    };
    let mut what = what.to_owned();
    if let Some(slot) = finding.halted {
        let _ = write!(what, "; has halted at slot {slot}");
    }
    if let (Some((first, _)), Some((_, last))) = (finding.lost.first(), finding.lost.last()) {
        let _ = write!(what, "; its log has lost records of {}", slots(*first, *last));
    }
    if let Err(why) = finding.reach.as_ref()
        && finding.memory != Memory::Empty
    {
        let _ = write!(what, "; {why}");
    }
    what
}

/// Why people must decide, what is proposed, and what that costs.
pub(crate) fn explain(verdict: &Verdict, proposal: &Proposal) -> String {
    let Proposal { from, executed, reach, returning, convicted, absent, .. } = proposal;
    let mut text = format!("The cluster cannot go on by itself: {}.\n\n", stop(verdict, proposal));
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "Goes on from:  the state of replica {from}, up to slot {reach}; {}.",
        why(verdict, proposal)
    );
    let carried = reach.0.saturating_sub(executed.0);
    if carried > 0 {
        let _ = writeln!(
            text,
            "Is carried:    {}. Replica {from} does not know whether {} decided, but holds certificates, as somebody must \
             where something was.",
            slots(Slot(executed.0 + 1), *reach),
            if carried == 1 { "that was" } else { "they were" }
        );
    }
    let _ = writeln!(text, "Is lost:       {}.", losses(proposal));
    if !returning.is_empty() {
        let keys: Vec<String> = returning.iter().map(|id| key(verdict, *id)).collect();
        let _ = writeln!(text, "Comes back:    {}.", keys.join("; "));
    }
    if !convicted.is_empty() {
        let _ = writeln!(text, "Stays out:     {} convicted of having lied.", are(convicted));
    }
    if !absent.is_empty() {
        let _ = writeln!(
            text,
            "Is not there:  {}. If a folder of theirs is left anywhere, give it: it may hold what the others lack, and no \
             other replica may run meanwhile.",
            replicas(absent)
        );
    }
    text.trim_end().to_owned()
}

/// Why it does not go on by itself.
fn stop(verdict: &Verdict, proposal: &Proposal) -> String {
    let needed = verdict.needed;
    let none_or_only = |some: &[u16]| match some {
        [] => "none does".to_owned(),
        [_] => format!("only {} does", replicas(some)),
        _ => format!("only {} do", replicas(some)),
    };
    match &proposal.stop {
        Stop::Promises => format!(
            "{needed} replicas must know what they have promised, and {}",
            none_or_only(&proposal.voters)
        ),
        Stop::Lost(first, last) => {
            let knows = |id: &&u16| {
                let mut found = verdict.found();
                found.any(|it| it.id == **id && !verdict.has_lost(it, *first))
            };
            let knows: Vec<u16> = proposal.voters.iter().filter(knows).copied().collect();
            format!(
                "{needed} replicas must have all that they held on {}, and of slot {first} {}; the logs of the others have lost \
                 records of it, and no view can begin until somebody decides about it",
                slots(*first, *last),
                none_or_only(&knows)
            )
        }
        Stop::Halted(parting) => halted(needed, parting),
    }
}

/// Where replicas have halted, and where they part.
fn halted(needed: usize, parting: &Parting) -> String {
    let groups = |groups: &[Vec<u16>], next: &str| {
        let groups: Vec<String> = groups.iter().map(|group| replicas(group)).collect();
        groups.join(next)
    };
    let mut text = format!(
        "it has halted at slot {}, as no digest of its state there can get the {needed} signatures that it takes. There is one \
         state of {}",
        parting.slot,
        groups(&parting.states, ", another of ")
    );
    match &parting.results {
        Some((first, results)) => {
            let _ = write!(
                text,
                ". Results part at slot {first}: there are those of {}",
                groups(results, ", others of ")
            );
        }
        None => text.push_str(". All results that can be compared are the same"),
    }
    text.push_str(
        ". Which of them is right nobody can tell from that: choose with --from, and look for what is wrong with the others \
         before they start",
    );
    text
}

fn why(verdict: &Verdict, proposal: &Proposal) -> String {
    if let Some(better) = proposal.better {
        return format!("chosen with --from, though that of replica {better} is better");
    }
    let as_far = |it: &&Finding| {
        it.id != proposal.from && it.epoch == verdict.epoch && it.reach == Ok(proposal.reach)
    };
    let others: Vec<u16> = verdict.found().filter(as_far).map(|it| it.id).collect();
    let mut peers = verdict.found().filter(|it| it.epoch == verdict.epoch);
    let is_furthest = peers.all(|it| it.reach.clone().unwrap_or_default() <= proposal.reach);
    let is_alone = verdict.found().filter(|it| it.reach.is_ok()).count() == 1;
    match others.as_slice() {
        [] if is_alone => "no other has one".to_owned(),
        [] if is_furthest => "none reaches further".to_owned(),
        [] => "from those that reach further more may be lost".to_owned(),
        _ => format!("{} {} as far", replicas(&others), verb(&others, "reaches", "reach")),
    }
}

fn losses(proposal: &Proposal) -> String {
    let parted = match &proposal.stop {
        Stop::Halted(parting) => parting.others(proposal.from),
        Stop::Promises | Stop::Lost(..) => None,
    };
    let parted = parted.map(|(first, others)| {
        format!(
            "what {} answered from slot {first} on, where it is not the same",
            replicas(&others)
        )
    });
    if proposal.losses.is_empty() && parted.is_none() {
        return "nothing that was answered, as far as no survivor lies and no other folder holds more".to_owned();
    }
    let after = Slot(proposal.reach.0 + 1);
    let words = |loss: &Loss| {
        match loss {
        Loss::Decided(id, last) => {
            format!("{}, which replica {id} knows to be decided", slots(after, *last))
        }
        Loss::Certified(id, last) => format!(
            "perhaps {}, for which replica {id} holds certificates that cannot be carried",
            slots(after, *last)
        ),
        Loss::Conflict(id, slot) => format!(
            "perhaps what was decided in slot {slot} and after it, as replica {id} holds a certificate for something else \
             there"
        ),
        Loss::Unknown => {
            "perhaps what was answered last, as a quorum has lost what it held, so that nobody may know of it any more"
                .to_owned()
        }
    }
    };
    proposal.losses.iter().map(words).chain(parted).collect::<Vec<_>>().join("; ")
}

fn key(verdict: &Verdict, id: u16) -> String {
    let finding = verdict.found().find(|it| it.id == id);
    match finding.and_then(|it| it.candidate) {
        Some(key) => {
            let key: String = key.to_string().chars().take(DIGITS).collect();
            format!("replica {id} under the key {key} that it has made for that")
        }
        None => format!("replica {id} under a new key that is made in its folder"),
    }
}

/// How to carry it out.
pub(crate) fn how(flags: &cli::Recover, proposal: &Proposal) -> String {
    let from = match flags.from {
        Some(_) => "",
        None => " With --from ID it goes on from another replica's state.",
    };
    format!(
        "Nothing was changed. Keep a copy of the folders, and carry it out with\n\n  {}{} --yes\n\nThat signs it with the \
         long-lived keys of the {} replicas at hand.{from}",
        command(flags),
        flags.from.map(|id| format!(" --from {id}")).unwrap_or_default(),
        proposal.voters.len() + proposal.returning.len() + proposal.convicted.len(),
    )
}

/// What was done, and what is left to do.
pub(crate) fn done(
    flags: &cli::Recover,
    verdict: &Verdict,
    proposal: &Proposal,
    decree: &Decree,
) -> String {
    let epoch = verdict.epoch.next();
    let (slot, from) = (decree.base.slot, proposal.from);
    let start = match &flags.cluster {
        None => format!("testudo up --data {}", quoted(&folder(flags))),
        Some(_) => "testudo replica ... on each host, as usual".to_owned(),
    };
    format!(
        "Done: epoch {epoch} begins with the state of replica {from} at slot {slot}.\nStart all replicas now, replica {from} \
         among them:\n\n  {start}\n\nThe others learn of it from replica {from}, and fetch the state by themselves. `testudo \
         status` shows when they vote."
    )
}

/// The command that was given, without what was said about how.
fn command(flags: &cli::Recover) -> String {
    match &flags.cluster {
        None => format!("testudo recover --data {}", quoted(&folder(flags))),
        Some(file) => {
            let mut words = format!("testudo recover --cluster {}", quoted(file));
            for given in &flags.replicas {
                let both = format!("{}={}", given.key.display(), given.data.display());
                let _ = write!(words, " --replica {}", quoted(Path::new(&both)));
            }
            words
        }
    }
}

fn folder(flags: &cli::Recover) -> std::path::PathBuf {
    flags.data.clone().unwrap_or_else(|| cli::DATA.into())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn slots(first: Slot, last: Slot) -> String {
    words::slots(first.0, last.0)
}

fn verb(some: &[u16], one: &'static str, more: &'static str) -> &'static str {
    if some.len() == 1 { one } else { more }
}

/// Replicas by name, with a verb.
pub(crate) fn are(ids: &[u16]) -> String {
    format!("{} {}", replicas(ids), verb(ids, "is", "are"))
}

/// Replicas by name.
pub(crate) fn replicas(ids: &[u16]) -> String {
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{} {}", if ids.len() == 1 { "replica" } else { "replicas" }, words::list(&names))
}

#[cfg(test)]
mod tests {
    use super::super::crew::Given;
    use super::super::verdict::Advice;
    use super::super::verdict::tests::{certified, empty, sound, verdict};
    use super::*;
    use testudo_core::PublicKey;

    fn flags() -> cli::Recover {
        let data = Some("my data".into());
        cli::Recover { data, cluster: None, replicas: Vec::new(), from: None, yes: false }
    }

    fn proposal(verdict: &Verdict, from: Option<u16>) -> Proposal {
        match verdict.advise(from) {
            Ok(Advice::Proposal(proposal)) => proposal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn people_read_what_there_is_and_what_it_costs() {
        let lost = Finding {
            memory: Memory::Lost,
            has_forgotten: true,
            candidate: Some(PublicKey([0xab; 32])),
            reach: Err("it has halted at slot 5".to_owned()),
            ..sound(2, 5)
        };
        let rows = [certified(0, 7, 2, b"a"), sound(1, 7), lost, empty(3)];
        let these = verdict(rows.map(Some).to_vec());
        let shown = table(&these);
        let line = |id: &str| {
            let line = shown.lines().find(|line| line.trim_start().starts_with(id));
            line.map(|it| it.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap()
        };
        assert_eq!(line("0"), "0 there 0 7 up to 9 knows what it has promised");
        assert_eq!(line("1"), "1 there 0 7 - knows what it has promised");
        assert_eq!(
            line("2"),
            "2 lost 0 5 - has lost what it has promised; it has halted at slot 5"
        );
        assert_eq!(line("3"), "3 folder empty - - - has lost what it has promised");

        let best = proposal(&these, None);
        let text = explain(&these, &best);
        for what in [
            "3 replicas must know what they have promised, and only replicas 0 and 1 do.",
            "the state of replica 0, up to slot 9; none reaches further.",
            "slots 8 to 9. Replica 0 does not know whether they were decided",
            "nothing that was answered",
            "replica 2 under the key abababababababab that it has made for that; replica 3 under a new key",
        ] {
            assert!(text.contains(what), "{what}: {text}");
        }
        let text = how(&flags(), &best);
        assert!(text.contains("\n  testudo recover --data 'my data' --yes\n"), "{text}");
        assert!(text.contains("--from ID"), "{text}");

        let other = proposal(&these, Some(1));
        let text = explain(&these, &other);
        assert!(text.contains("chosen with --from, though that of replica 0 is better"), "{text}");
        assert!(text.contains("perhaps slots 8 to 9, for which replica 0 holds"), "{text}");
        assert!(!text.contains("Is carried"), "{text}");
    }

    #[test]
    fn people_read_where_replicas_part() {
        let halted = |id, state: &[u8]| Finding {
            halted: Some(Slot(8)),
            state: testudo_core::Digest::of(state),
            outcomes: [(Slot(6), testudo_core::Digest::of(state))].into(),
            ..sound(id, 8)
        };
        let rows = [halted(0, b"a"), halted(1, b"a"), halted(2, b"b"), halted(3, b"c")];
        let these = verdict(rows.map(Some).to_vec());
        assert!(table(&these).contains("knows what it has promised; has halted at slot 8"));
        let text = explain(&these, &proposal(&these, None));
        for what in [
            "it has halted at slot 8",
            "one state of replicas 0 and 1, another of replica 2, another of replica 3",
            "Results part at slot 6: there are those of replicas 0 and 1, others of replica 2, others of replica 3",
            "choose with --from",
            "what replicas 2 and 3 answered from slot 6 on",
        ] {
            assert!(text.contains(what), "{what}: {text}");
        }
        assert!(!text.contains("Comes back"), "{text}");
    }

    #[test]
    fn people_read_what_too_many_have_lost() {
        let holed = |id| Finding { lost: vec![(Slot(8), Slot(9))], ..sound(id, 7) };
        let rows = [certified(0, 7, 2, b"a"), sound(1, 7), holed(2), holed(3)];
        let these = verdict(rows.map(Some).to_vec());
        assert!(table(&these).contains("its log has lost records of slots 8 to 9"));
        let text = explain(&these, &proposal(&these, None));
        for what in [
            "3 replicas must have all that they held on slots 8 to 9",
            "of slot 8 only replicas 0 and 1 do",
            "nothing that was answered",
        ] {
            assert!(text.contains(what), "{what}: {text}");
        }
    }

    #[test]
    fn the_command_to_carry_it_out_is_the_one_that_was_given() {
        let given = |key: &str, data: &str| Given { key: key.into(), data: data.into() };
        let flags = cli::Recover {
            data: None,
            cluster: Some("c.toml".into()),
            replicas: vec![given("a.key", "/a"), given("b.key", "it's b")],
            from: Some(1),
            yes: false,
        };
        let rows = vec![Some(empty(0)), Some(sound(1, 4)), Some(sound(2, 4)), Some(empty(3))];
        let text = how(&flags, &proposal(&verdict(rows), Some(1)));
        let what = r"testudo recover --cluster c.toml --replica a.key=/a --replica 'b.key=it'\''s b' --from 1 --yes";
        assert!(text.contains(what), "{text}");
        assert!(!text.contains("--from ID"), "{text}");
    }

    #[test]
    fn who_is_not_there_and_what_nobody_may_know_is_said() {
        let rows = vec![Some(sound(0, 7)), Some(empty(1)), Some(empty(2)), None];
        let these = verdict(rows);
        assert!(table(&these).contains("not at hand"));
        let text = explain(&these, &proposal(&these, None));
        for what in [
            "only replica 0 does",
            "replica 3. If a folder",
            "no other has one",
            "nobody may know of it",
        ] {
            assert!(text.contains(what), "{what}: {text}");
        }
    }
}
