//! Golden scripts: runs that a person chose step by step, with what must come of each step written below it.
//!
//! A script is a text of blocks. A block is some commands, a line `---`, what they print, and an empty line:
//!
//! ```text
//! # The primary orders one request.
//! request c1 put a=1
//! ---
//! c1 → 0 bundle A
//! ```
//!
//! With `UPDATE_GOLDEN=1` in the environment the printed part is written anew, to be reviewed as a difference.
//! [`Stage`] lists the commands. Digests are printed as names in the order of their first appearance.

mod harm;
mod names;
mod printing;
mod show;
mod stage;
mod words;

pub(crate) use names::Names;
pub use show::compact;
pub use stage::{Scripted, Stage};
pub(crate) use words::fact_line;

use crate::diagram::Reel;
use std::fmt::Write as _;
use std::path::Path;

/// Plays a script and gives it back with what was really printed.
pub fn play<S: Scripted>(text: &str, make: impl FnMut() -> S) -> String {
    play_on(&mut Stage::new(make), text)
}

/// The same, with a film of its last cluster.
pub fn film<S: Scripted>(text: &str, make: impl FnMut() -> S, film: &Reel) -> String {
    let mut stage = Stage::new(make);
    stage.film(film.clone());
    play_on(&mut stage, text)
}

fn play_on<S: Scripted, F: FnMut() -> S>(stage: &mut Stage<S, F>, text: &str) -> String {
    let mut played = String::new();
    for block in text.split("\n\n").map(|block| block.trim_matches('\n')) {
        if block.is_empty() {
            continue;
        }
        if !played.is_empty() {
            played.push('\n');
        }
        let commands = block.lines().take_while(|line| line.trim() != "---");
        let mut printed = Vec::new();
        let mut has_commands = false;
        for line in commands {
            played.push_str(line);
            played.push('\n');
            let command = line.split('#').next().unwrap_or_default().trim();
            if !command.is_empty() {
                has_commands = true;
                printed.extend(stage.command(command));
            }
        }
        if has_commands {
            played.push_str("---\n");
            let printed = if printed.is_empty() { vec!["ok".into()] } else { printed };
            for line in printed {
                played.push_str(line.trim_end());
                played.push('\n');
            }
        }
    }
    played
}

/// Plays the script in a file and compares. With `UPDATE_GOLDEN=1` in the environment the file is written anew.
///
/// # Panics
/// With the difference if there is one, or when the file cannot be read or written: it is a test's last word.
pub fn check<S: Scripted>(path: impl AsRef<Path>, make: impl FnMut() -> S) {
    let path = path.as_ref();
    let expected = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let played = play(&expected, make);
    let accepts = std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1");
    if let Err(difference) = compare(path, &expected, &played, accepts) {
        panic!("{} plays otherwise (UPDATE_GOLDEN=1 accepts it):\n{difference}", path.display());
    }
}

fn compare(path: &Path, expected: &str, played: &str, accepts: bool) -> Result<(), String> {
    if played == expected {
        return Ok(());
    }
    if !accepts {
        return Err(difference(expected, played));
    }
    std::fs::write(path, played).map_err(|error| error.to_string())
}

/// Plays every `.txt` script in a directory, in the order of names.
///
/// # Panics
/// As [`check`] does, and when there is no script.
pub fn check_all<S: Scripted>(directory: impl AsRef<Path>, mut make: impl FnMut() -> S) {
    let directory = directory.as_ref();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => panic!("{}: {error}", directory.display()),
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no script", directory.display());
    for path in paths {
        check(path, &mut make);
    }
}

/// A line by line difference, by longest common subsequence, with a little context.
fn difference(expected: &str, played: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), played.lines().collect());
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let is_near = |index: usize| {
        let window = index.saturating_sub(3)..(index + 4).min(lines.len());
        lines[window].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    for (index, (mark, line)) in lines.iter().enumerate().filter(|(index, _)| is_near(*index)) {
        let _ = writeln!(text, "{:>5} {mark} {line}", index + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{compare, difference};

    #[test]
    fn a_file_is_written_anew_only_when_asked_for() {
        let path = std::env::temp_dir().join(format!("testudo-script-{}", std::process::id()));
        assert!(compare(&path, "same", "same", false).is_ok());
        let shown = compare(&path, "old", "new", false);
        assert_eq!(shown, Err("    1 - old\n    2 + new\n".into()));
        assert!(!path.exists());
        assert!(compare(&path, "old", "new", true).is_ok());
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("new"));
        std::fs::remove_file(&path).expect("it was written");
    }

    #[test]
    fn a_difference_shows_what_went_and_what_came() {
        let text = difference("a\nb\nc\nd\ne\nf\ng\nh", "a\nb\nc\nd\nE\nf\ng\nh");
        assert_eq!(
            text,
            "    2   b\n    3   c\n    4   d\n    5 - e\n    6 + E\n    7   f\n    8   g\n    9   h\n"
        );
    }
}
