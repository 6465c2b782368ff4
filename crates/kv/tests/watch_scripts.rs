//! Runs `tests/watches/*.txt`: stories of watches, and below each command what it must give.
//!
//! A line that begins with `#` is a comment, an indented line belongs to what the command above it gives, and any other
//! line is a command. Each file starts from an empty store. `UPDATE_GOLDEN=1` writes the answers anew.
//!
//! ```text
//! limits [streams=N] [watches=N] [per_stream=N] [key_bytes=N] [answers=N] [pending=N] [window=N] [step=N]
//! open S | close S
//! watch S KEYS [start=N] [id=N] [prev] [noput] [nodelete] [notify] [fragment]
//! cancel S ID | progress S | tick S
//! publish
//! poll S [events=N] [bytes=N] [once]
//! ```
//!
//! S names a stream. `limits`, which comes first if at all, begins with these; `publish` hands the store's newest copy
//! to the watches; `poll` takes what the stream has to say until it has nothing more, or the next thing only. Everything
//! else is an operation on the store, as in `tests/scripts`.

#[path = "support/instance.rs"]
mod instance;
#[path = "support/script.rs"]
mod script;

use instance::Instance;
use script::Command;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use testudo_core::Decode;
use testudo_kv::watch::{
    Budget, Cause, Event, Limits, Notice, StreamId, Turn, WatchRequest, Watchers,
};
use testudo_kv::{KeyValue, Operation};
use testudo_state::Map;

#[test]
fn watches_are_told_what_their_scripts_show() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/watches");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are scripts");
    for file in files {
        let shown = fs::read_to_string(&file).unwrap();
        let given = run(&shown);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, given).unwrap();
            continue;
        }
        for (at, (shown, given)) in shown.lines().zip(given.lines()).enumerate() {
            assert_eq!(shown, given, "{}:{}", file.display(), at + 1);
        }
        assert_eq!(shown.lines().count(), given.lines().count(), "{}", file.display());
    }
}

/// The script with what its commands give.
fn run(text: &str) -> String {
    let mut stage = Stage::new(Instance::new(), Limits::default());
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            let tokens: Vec<&str> = line.split_whitespace().collect();
            stage.command(line, &tokens, &mut out);
        }
    }
    out
}

/// A store, the watches on its published copies, and the names of their streams.
struct Stage {
    kv: Instance,
    watchers: Watchers<Map>,
    streams: BTreeMap<String, StreamId>,
}

impl Stage {
    fn new(kv: Instance, limits: Limits) -> Self {
        let watchers = Watchers::new(limits, kv.store.clone());
        Self { kv, watchers, streams: BTreeMap::new() }
    }

    fn command(&mut self, line: &str, tokens: &[&str], out: &mut String) {
        let stream = tokens.get(1).and_then(|name| self.streams.get(*name)).copied();
        let (verb, options) = (tokens[0], tokens.get(2..).unwrap_or_default());
        match (verb, stream) {
            ("limits", _) => *self = Self::new(Instance::new(), limits(&tokens[1..])),
            ("publish", _) => self.publish(out),
            ("open", None) => match self.watchers.open() {
                Ok(stream) => drop(self.streams.insert(tokens[1].to_owned(), stream)),
                Err(_) => out.push_str("  refused\n"),
            },
            ("close", Some(stream)) => {
                self.watchers.close(stream);
                self.streams.remove(tokens[1]);
            }
            ("watch", Some(stream)) => {
                let request = request(options);
                if let Err(refusal) = self.watchers.create(stream, &request) {
                    let _ = writeln!(out, "  refused: {refusal:?}");
                }
            }
            ("cancel", Some(stream)) => {
                if !self.watchers.cancel(stream, options[0].parse().unwrap()) {
                    out.push_str("  ignored\n");
                }
            }
            ("progress", Some(stream)) => self.watchers.request_progress(stream),
            ("tick", Some(stream)) => self.watchers.tick(stream),
            ("poll", Some(stream)) => self.poll(stream, options, out),
            _ => {
                let given = match script::parse(line) {
                    Command::Operation(operation) => script::print(&self.kv.execute(&operation)),
                    Command::Raw(bytes) => script::print(&self.kv.execute_bytes(&bytes)),
                    Command::Store(settings) => {
                        *self = Self::new(Instance::with(settings), Limits::default());
                        String::new()
                    }
                    Command::Pass(milliseconds) => {
                        let happened = self.kv.pass(milliseconds);
                        script::print_passed(&self.kv, happened)
                    }
                    Command::Changes(from) => script::print_changes(&self.kv, from),
                };
                out.push_str(&given);
            }
        }
    }

    fn publish(&mut self, out: &mut String) {
        // Whoever was woken before has been polled or not; what counts is whom this wakes.
        self.watchers.take_woken();
        self.watchers.advance(self.kv.store.clone());
        let _ = write!(out, "  revision {}", self.watchers.revision());
        let woken = self.watchers.take_woken();
        for (name, stream) in &self.streams {
            if woken.contains(stream) {
                let _ = write!(out, ", {name} wakes");
            }
        }
        out.push('\n');
    }

    fn poll(&mut self, stream: StreamId, options: &[&str], out: &mut String) {
        let mut budget = Budget::default();
        for option in options {
            match option.split_once('=') {
                Some(("events", count)) => budget.events = count.parse().unwrap(),
                Some(("bytes", count)) => budget.bytes = count.parse().unwrap(),
                _ => assert_eq!(*option, "once", "no such option of a poll"),
            }
        }
        for _ in 0..1000 {
            match self.watchers.poll(stream, budget) {
                Turn::Notice(notice) => {
                    print(&notice, out);
                    if options.contains(&"once") {
                        return;
                    }
                }
                Turn::Again => {}
                Turn::Nothing => return,
            }
        }
        panic!("a stream never comes to an end");
    }
}

fn limits(options: &[&str]) -> Limits {
    let mut limits = Limits::default();
    for option in options {
        let (name, count) = option.split_once('=').expect("NAME=N");
        let place = match name {
            "streams" => &mut limits.streams,
            "watches" => &mut limits.watches,
            "per_stream" => &mut limits.watches_per_stream,
            "key_bytes" => &mut limits.key_bytes,
            "answers" => &mut limits.answers,
            "pending" => &mut limits.pending,
            "window" => &mut limits.window_revisions,
            "step" => &mut limits.step,
            _ => panic!("no such limit: {name}"),
        };
        *place = count.parse().unwrap();
    }
    limits
}

fn request(options: &[&str]) -> WatchRequest {
    // Keys are written as in operations; watches take the empty one, too.
    let line = format!("get {}", options[0]);
    let Command::Operation(Operation::Range(range)) = script::parse(&line) else {
        panic!("a get is a range");
    };
    let mut request =
        WatchRequest { key: range.key, range_end: range.range_end, ..WatchRequest::default() };
    for option in &options[1..] {
        match option.split_once('=') {
            Some(("start", revision)) => request.start_revision = revision.parse().unwrap(),
            Some(("id", id)) => request.watch_id = id.parse().unwrap(),
            None if *option == "prev" => request.prev_kv = true,
            None if *option == "noput" => request.no_put = true,
            None if *option == "nodelete" => request.no_delete = true,
            None if *option == "notify" => request.progress_notify = true,
            None if *option == "fragment" => request.fragment = true,
            _ => panic!("no such option of a watch: {option}"),
        }
    }
    request
}

fn print(notice: &Notice, out: &mut String) {
    let _ = match notice {
        Notice::Created { watch_id, revision } => {
            writeln!(out, "  watch {watch_id} created, revision {revision}")
        }
        Notice::Refused { refusal, revision } => {
            writeln!(
                out,
                "  watch -1 created and canceled, revision {revision}: {}",
                refusal.text()
            )
        }
        Notice::Canceled { watch_id, revision, cause: Cause::Asked } => {
            writeln!(out, "  watch {watch_id} canceled, revision {revision}")
        }
        Notice::Canceled { watch_id, revision, cause: Cause::Compacted(at) } => {
            writeln!(out, "  watch {watch_id} canceled, revision {revision}: compacted at {at}")
        }
        Notice::Progress { watch_id, revision } => {
            writeln!(out, "  watch {watch_id} progress, revision {revision}")
        }
        Notice::Events { watch_id, revision, events, fragment } => {
            let fragment = if *fragment { ", fragment" } else { "" };
            let _ = writeln!(out, "  watch {watch_id} revision {revision}{fragment}");
            events.iter().for_each(|event| print_event(event, out));
            Ok(())
        }
    };
}

fn print_event(event: &Event, out: &mut String) {
    let (key, revision) = (event.change.key.escape_ascii(), event.change.revision);
    let _ = match &event.change.record {
        None => writeln!(out, "    delete {key} mod {revision}"),
        Some(record) => {
            let record = KeyValue::from_bytes(record).expect("a record");
            assert_eq!((&record.key, record.mod_revision), (&event.change.key, revision));
            writeln!(out, "    put {}", describe(&record))
        }
    };
    if let Some(previous) = &event.previous {
        let previous = KeyValue::from_bytes(previous).expect("a record");
        let _ = writeln!(out, "      was {}", describe(&previous));
    }
}

fn describe(kv: &KeyValue) -> String {
    let (key, value) = (kv.key.escape_ascii().to_string(), kv.value.escape_ascii().to_string());
    let value = if value.len() > 16 { format!("{} bytes", value.len()) } else { value };
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    format!("{key} = \"{value}\" create {create} mod {modified} version {version}")
}
