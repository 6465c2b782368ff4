//! A world that a script drives.
//!
//! Commands, with nodes by name (`0`, `3`, `c1`, `l1` for a learner, `2'` for a twin's second copy, `*` for all):
//!
//! | command | what it does |
//! |---|---|
//! | `cluster replicas=4 clients=1 learners=1 f=1 seed=0 liar=2:stale upstream=2` | makes the world; the first command |
//! | `request c1 put a=1` | the layer above a client asks; the words are the system's |
//! | `ask 0 propose a b` | the layer above a replica asks; the words are the system's |
//! | `deliver 0->1 prepare`, `deliver *` | delivers what is under way now (of that kind), in the order of sending |
//! | `drop 0->3 prepare`, `duplicate 0->1` | the same choice, lost or doubled |
//! | `spoil c1->2 bundle` | the same choice, with the sender's signature made wrong, as by a sender that lies |
//! | `keep 2->0 prepare` | the same choice: the frames are kept, and go on their way |
//! | `replay 3->1` | a node that lies hands on the frames that were kept last |
//! | `forge 3->1` | it says what they say, under the first voting keys of those who have come back |
//! | `partition 0 \| 1 2 3`, `cut 0->1`, `heal` | messages between the groups, or in one direction, are lost |
//! | `crash 2`, `crash 2 keep=1`, `restart 2` | the unflushed writes are lost, but for the first few |
//! | `disk hold`, `flush 2`, `disk auto` | writes wait for `flush`, or are flushed at once |
//! | `words hold`, `work hold`, ... `auto` | likewise what a node says to itself, and what goes on in its background |
//! | `harm 2 record voted`, `harm 2 write 7`, `harm 2 misdirected 5 7` | a record rots (the last of that name, or by number), was never written, or was written onto another |
//! | `harm 2 snapshot`, `harm 2 memory`, `harm 2 superblock-copy`, `harm 2 superblock` | each of that rots or is lost |
//! | `harm 2 wiped`, `image 2`, `harm 2 old-image` | of a node that is down: an empty disk, or the one that was kept |
//! | `scrub 2` | a node that runs is told what rotted on its disk |
//! | `records 2` | one line per durable record |
//! | `fire 1 view` | a running timer whose name begins so runs out now |
//! | `advance 1s` | time passes, timers run out, messages stay under way |
//! | `run 5s` | time passes, timers run out, messages take 1 ms each |
//! | `stabilize` | delivers until nothing is under way; timers stay |
//! | `clock 1 +3600s` | sets a node's wall clock off |
//! | `verdict` | which rules were broken so far: of all that runs are judged by where steps alone were done, of those that every protocol keeps otherwise |
//! | `status`, `wire` | one line per replica, or per message under way |
//! | `quiet`, `loud` | hides or shows messages; what replicas tell their upper layers is always shown |
//!
//! Beyond these a script knows each step that can be done to a world, as [`crate::step`] prints it: `deliver 0->1
//! prepare/3` for one message, `at 1500us` for time that passes while nothing else happens, `finish 0 work/1`. With these,
//! in a cluster that is `asleep` at first, a run is told that was found by chance. What there is to know of such a run and is
//! no step the `cluster` command says: `disks=logs`, `most-records=400`, `signatures=ed25519`, or `beyond` where more was wrong
//! than is promised to be survived.

use super::cluster::Cluster;
use super::names::Names;
use super::show::compact;
use super::words::{duration, number};
use crate::adversary::{Saying, Words};
use crate::diagram::{Film, Reel};
use crate::event::{Event, Letter, Loss, NodeId};
use crate::host::quietly;
use crate::oracle::{Cast, Jury};
use crate::papers::{NO_PANIC, panic_text};
use crate::report::Report;
use crate::step::{Haste, Started, Step, numbered, read_bytes};
use crate::world::{Observer, System, World};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Protocol, Signed, Verified};

/// A system whose words a script can read and write.
pub trait Scripted: System {
    /// What the client with this index is asked for by these words of a `request` command.
    ///
    /// # Errors
    /// With a sentence, when they are no request.
    fn request(
        &mut self,
        client: usize,
        words: &[&str],
    ) -> Result<<Self::Client as Protocol>::Input, String>;

    /// What a replica is asked for by these words of an `ask` command.
    ///
    /// # Errors
    /// With a sentence, when they are nothing that can be asked for.
    fn ask(&mut self, words: &[&str]) -> Result<<Self::Replica as Protocol>::Input, String> {
        Err(format!("replicas of this system are not asked for {}", words.join(" ")))
    }

    /// What a client's automaton gave out, as a line, if it is worth one.
    fn show_answer(
        &mut self,
        client: usize,
        output: <Self::Client as Protocol>::Output,
    ) -> Option<String> {
        let _ = client;
        Some(compact(&format!("{output:?}")))
    }

    /// The operation that these words of a numbered `request` command ask for.
    ///
    /// # Errors
    /// With a sentence, when they ask for none.
    fn read_operation(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        Err(format!("no such operation: {}", words.join(" ")))
    }

    /// The words that ask for an operation, if there are such.
    fn show_operation(&self, operation: &[u8]) -> Option<String> {
        let _ = operation;
        None
    }

    /// A message's fields, without its name.
    fn show_message(&self, message: &Self::Message) -> String {
        compact(&format!("{message:?}"))
    }

    /// What all who judge runs of this system say of the run that these commands tell; none where only those judge it who
    /// judge every system, or where the commands tell no run by steps alone.
    fn judged(make: &mut dyn FnMut() -> Self, script: &str) -> Option<Report> {
        let _ = (make, script);
        None
    }

    /// A replica's line in `status`.
    fn show_status(&self, replica: &Self::Replica) -> String;

    /// A client's line in `status`, if it has one.
    fn show_client(&self, client: &Self::Client) -> Option<String> {
        let _ = client;
        None
    }
}

/// Events that have not been printed yet.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) events: Vec<Event>,
}

impl Observer for Listener {
    fn observe(&mut self, _: Duration, event: &Event) {
        self.events.push(event.clone());
    }
}

/// A world that a script drives.
pub struct Stage<S: Scripted, F> {
    make: F,
    pub(super) world: Option<World<S>>,
    pub(super) listener: Rc<RefCell<Listener>>,
    pub(super) names: Names,
    /// What messages say, by number, as they were printed when they were sent.
    pub(super) said: BTreeMap<u64, String>,
    /// Timers that run and flushes that wait.
    started: Started,
    /// Whoever judges what happens.
    jury: Rc<RefCell<Jury>>,
    /// Frames that were kept.
    kept: Vec<Signed<S::Message>>,
    /// What happens at once.
    pub(super) haste: Haste,
    pub(super) is_quiet: bool,
    /// Whether time passes, and timers run out by themselves.
    pub(super) is_passing: bool,
    pub(super) printed: Vec<String>,
    film: Option<Reel>,
    /// The commands since the last cluster was made, and the one that made it.
    told: String,
    /// What somebody panicked with. Nothing is left of the world then.
    panicked: Option<String>,
}

/// Beyond this many steps of one command something goes round in circles.
const MOST: usize = 100_000;

pub(super) type Done = Result<(), String>;

impl<S: Scripted, F: FnMut() -> S> Stage<S, F> {
    /// A stage without a world yet.
    pub fn new(make: F) -> Self {
        Self {
            make,
            world: None,
            listener: Rc::default(),
            names: Names::default(),
            said: BTreeMap::new(),
            started: Started::default(),
            jury: Rc::new(RefCell::new(Jury::new(Cast::default()))),
            kept: Vec::new(),
            haste: Haste::ALL,
            is_quiet: false,
            is_passing: false,
            printed: Vec::new(),
            film: None,
            told: String::new(),
            panicked: None,
        }
    }

    /// From the next `cluster` command on, what happens is filmed.
    pub fn film(&mut self, film: Reel) {
        self.film = Some(film);
    }

    /// Carries out one command and gives back what it printed. A command that makes no sense prints why; one that makes
    /// somebody panic prints that, and no world is left.
    pub fn command(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"cluster") {
            self.told.clear();
            self.panicked = None;
        }
        self.told.push_str(line);
        self.told.push('\n');
        let done = quietly(|| catch_unwind(AssertUnwindSafe(|| self.dispatch(&words))));
        let done = done.unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref());
            let error = format!("it panicked: {text}");
            (self.world, self.panicked) = (None, Some(text));
            Err(error)
        });
        if let Err(error) = done {
            self.printed.push(format!("error: {error}"));
        }
        std::mem::take(&mut self.printed)
    }

    fn dispatch(&mut self, words: &[&str]) -> Done {
        match words {
            ["cluster", options @ ..] => self.cluster(options),
            ["request", _, ticket, ..] if ticket.starts_with("ticket=") => self.numbered(words),
            ["request", client, words @ ..] => self.request(client, words),
            ["ask", node, words @ ..] => {
                let node = self.node(node)?;
                let input = self.world()?.system.ask(words)?;
                self.act(|world| world.ask_replica(node, input))
            }
            ["deliver" | "drop" | "duplicate" | "spoil", .., name] if numbered(name).is_some() => {
                self.step(words)
            }
            ["deliver", choice @ ..] => self.each(choice, |world, number| {
                world.deliver(number);
            }),
            ["drop", choice @ ..] => self.each(choice, |world, number| {
                world.lose(number, Loss::Script);
            }),
            ["duplicate", choice @ ..] => self.each(choice, World::duplicate),
            ["spoil", choice @ ..] => self.each(choice, World::spoil),
            ["keep", choice @ ..] => self.keep(choice),
            ["replay", arrow] => self.lie(arrow, Words::Frame),
            ["forge", arrow] => self.lie(arrow, |frame| {
                let said = Verified::replay(frame.clone()).map(Verified::into_message);
                said.map_or(Words::Frame(frame), Words::Stolen)
            }),
            ["partition", groups @ ..] => self.partition(groups),
            ["cut", arrow] => self.cut(arrow),
            ["heal"] => self.act(World::heal),
            ["crash", node] => self.step(&["crash", node, "keep=0"]),
            ["restart", node] => {
                let node = self.node(node)?;
                self.act(|world| world.restart(node))
            }
            ["harm", node, words @ ..] => self.harm(node, words),
            ["image", node] => self.image(node),
            ["scrub", node] => {
                let node = self.node(node)?;
                self.act(|world| {
                    world.scrub(node);
                })
            }
            ["records", node] => self.records(node),
            [thing @ ("disk" | "words" | "work"), how @ ("hold" | "auto")] => {
                let at_once = match *thing {
                    "disk" => &mut self.haste.flushes,
                    "words" => &mut self.haste.words,
                    _ => &mut self.haste.work,
                };
                *at_once = *how == "auto";
                self.after_step()
            }
            ["fire", node, timer @ ..] => self.fire(node, &timer.join(" ")),
            ["advance", time] => self.pass(time, false),
            ["run", time] => self.pass(time, true),
            ["stabilize"] => self.stabilize(),
            ["clock", node, offset] => self.clock(node, offset),
            ["verdict"] => self.verdict(),
            ["status"] => self.status(),
            ["wire"] => self.wire(),
            [voice @ ("quiet" | "loud")] => {
                self.is_quiet = *voice == "quiet";
                Ok(())
            }
            _ => self.step(words),
        }
    }

    pub(super) fn world(&mut self) -> Result<&mut World<S>, String> {
        self.world.as_mut().ok_or_else(|| "there is no cluster yet".into())
    }

    /// One step of the world, with what follows from it at once.
    pub(super) fn act(&mut self, step: impl FnOnce(&mut World<S>)) -> Done {
        step(self.world()?);
        self.after_step()
    }

    /// Prints what happened, and lets happen what happens at once.
    fn after_step(&mut self) -> Done {
        for _ in 0..MOST {
            self.print_events();
            let Some(world) = self.world.as_mut() else { return Ok(()) };
            if let Some(film) = &self.film {
                film.borrow_mut().look(world);
            }
            if !self.started.settle(world, self.haste) {
                self.started.forget(world);
                return Ok(());
            }
        }
        Err("this goes round in circles".into())
    }

    /// One of all the steps that can be done to a world.
    pub(super) fn step(&mut self, words: &[&str]) -> Done {
        let line = words.join(" ");
        let step: Step = line.parse().map_err(|_| format!("no such command: {line}"))?;
        self.do_step(&step)
    }

    fn do_step(&mut self, step: &Step) -> Done {
        for who in step.nodes() {
            self.world()?.named(who).ok_or_else(|| format!("no node {who}"))?;
        }
        let mut is_there = false;
        self.act(|world| is_there = world.apply(step))?;
        self.recast()?;
        if is_there { Ok(()) } else { Err("there is no such thing, and nothing happens".into()) }
    }

    /// Somebody may have begun to lie, and convicts nobody from now on.
    fn recast(&mut self) -> Done {
        let cast = Cast::of(self.world()?);
        self.jury.borrow_mut().recast(cast);
        Ok(())
    }

    /// `request c1 ticket=3 put a=1`, or the operation's bytes instead of words.
    fn numbered(&mut self, words: &[&str]) -> Done {
        let ["request", client, ticket, words @ ..] = words else {
            return Err("no request".into());
        };
        let client = client.parse()?;
        let ticket = number(ticket.trim_start_matches("ticket="))?;
        let bytes = match words {
            [bytes] => read_bytes(bytes),
            _ => None,
        };
        let system = &self.world()?.system;
        let operation = bytes.map_or_else(|| system.read_operation(words), Ok)?;
        self.do_step(&Step::Ask(client, ticket, operation))
    }

    /// Says which rules were broken so far.
    ///
    /// The jury hears events alone. Where the commands tell a run by its steps, that run is done again before all judges:
    /// those too who read the clients' history, the states that replicas hold, and what learners publish.
    fn verdict(&mut self) -> Done {
        let judged = S::judged(&mut self.make, &self.told);
        let line = |rule: &str, what: &str| {
            let what: Vec<&str> = what.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
            format!("{rule} is broken: {}", what.join(" / "))
        };
        let mut lines: Vec<String> = match &judged {
            Some(report) => report.violations.iter().map(|it| line(it.oracle, &it.what)).collect(),
            None => {
                let jury = self.jury.borrow();
                let panics = self.panicked.iter().map(|text| line(NO_PANIC, text));
                jury.violations().iter().map(|it| line(it.oracle, &it.what)).chain(panics).collect()
            }
        };
        if lines.is_empty() {
            lines.push("no rule is broken".into());
        } else if let Some(report) = judged.filter(|report| report.exceeds) {
            let verdict = format!("{:?}", report.verdict()).to_lowercase();
            lines.push(format!("more was wrong than is survived: {verdict}"));
        }
        self.print(lines);
        Ok(())
    }

    fn cluster(&mut self, options: &[&str]) -> Done {
        let cluster = Cluster::parse(options)?;
        (self.names, self.said) = (Names::default(), BTreeMap::new());
        self.started = Started::default();
        self.listener = Rc::default();
        let mut world = cluster.world((self.make)())?;
        world.watch(self.listener.clone());
        if let Some(film) = &self.film {
            Film::roll(film, &mut world);
        }
        self.jury = Rc::new(RefCell::new(Jury::new(Cast::of(&world))));
        world.watch(self.jury.clone());
        self.world = Some(world);
        if cluster.is_asleep { Ok(()) } else { self.act(World::start_all) }
    }

    fn request(&mut self, client: &str, words: &[&str]) -> Done {
        let world = self.world()?;
        let callers = 0..world.setup().clients.len();
        let index =
            callers.into_iter().find(|index| world.name(world.client_node(*index)) == client);
        let index = index.ok_or_else(|| format!("{client} is no client"))?;
        let input = world.system.request(index, words)?;
        self.act(|world| world.ask_client(index, input))
    }

    /// Does something to every chosen message that is under way now, in the order of sending.
    fn each(&mut self, choice: &[&str], mut step: impl FnMut(&mut World<S>, u64)) -> Done {
        let (arrow, kind) = match choice {
            [] | ["*"] => ("*->*", None),
            [arrow] => (*arrow, None),
            [arrow, kind @ ..] => (*arrow, Some(kind.join(" "))),
        };
        let (from, to) = self.arrow(arrow)?;
        let is_chosen = |letter: &Letter| {
            from.is_none_or(|from| from == letter.from)
                && to.is_none_or(|to| to == letter.to)
                && kind.as_ref().is_none_or(|kind| letter.name.eq_ignore_ascii_case(kind))
        };
        let world = self.world()?;
        let chosen: Vec<u64> =
            world.letters().filter(|letter| is_chosen(letter)).map(|l| l.number).collect();
        if chosen.is_empty() {
            return Err("no such message is under way".into());
        }
        for number in chosen {
            self.act(|world| step(world, number))?;
        }
        Ok(())
    }

    fn keep(&mut self, choice: &[&str]) -> Done {
        let mut kept = Vec::new();
        self.each(choice, |world, number| kept.extend(world.frame(number)))?;
        self.kept = kept;
        Ok(())
    }

    /// A node that lies says something about each of the frames that were kept.
    fn lie(
        &mut self,
        arrow: &str,
        words: impl Fn(Signed<S::Message>) -> Words<S::Message>,
    ) -> Done {
        let (Some(from), Some(to)) = self.arrow(arrow)? else {
            return Err("a lie is from one node to one other".into());
        };
        for frame in self.kept.clone() {
            let words = words(frame);
            self.act(|world| {
                world.suborn(from);
                let to = world.peer(to);
                world.have_lie(from, Saying { to, words, after: Duration::ZERO });
            })?;
        }
        self.recast()
    }

    fn partition(&mut self, words: &[&str]) -> Done {
        let mut groups = Vec::new();
        for group in words.split(|word| *word == "|") {
            let nodes: Result<Vec<NodeId>, String> =
                group.iter().map(|name| self.node(name)).collect();
            groups.push(nodes?);
        }
        self.act(|world| world.partition(&groups))
    }

    fn cut(&mut self, arrow: &str) -> Done {
        match self.arrow(arrow)? {
            (Some(from), Some(to)) => self.act(|world| world.cut(from, to)),
            _ => Err("a cut is from one node to one other".into()),
        }
    }

    fn fire(&mut self, node: &str, timer: &str) -> Done {
        let id = self.node(node)?;
        let world = self.world()?;
        let number = world.timer_called(id, timer).or_else(|| world.timer_named(id, timer));
        let number = number.ok_or_else(|| format!("no timer {timer} runs at {node}"))?;
        self.act(|world| {
            world.fire(id, number);
        })
    }

    /// Time passes; timers run out in order, and messages arrive a millisecond after they are sent, or not at all.
    fn pass(&mut self, time: &str, delivers: bool) -> Done {
        let end = self.world()?.now() + duration(time)?;
        self.is_passing = true;
        let done = self.pass_until(end, delivers);
        self.is_passing = false;
        done
    }

    fn pass_until(&mut self, end: Duration, delivers: bool) -> Done {
        for _ in 0..MOST {
            let due = self.started.timers.first().copied().filter(|(due, ..)| *due <= end);
            let now = self.world()?.now();
            let is_message_first = delivers
                && self.world()?.letters().next().is_some()
                && due.is_none_or(|(due, ..)| due > now + MESSAGE)
                && now + MESSAGE <= end;
            if is_message_first {
                self.world()?.advance_to(now + MESSAGE);
                self.each(&["*"], |world, number| {
                    world.deliver(number);
                })?;
            } else if let Some(timer) = due {
                self.started.timers.remove(&timer);
                let (due, node, number) = timer;
                self.act(|world| {
                    world.advance_to(due);
                    world.fire(node, number);
                })?;
            } else {
                self.world()?.advance_to(end);
                return Ok(());
            }
        }
        Err("this goes round in circles".into())
    }

    fn stabilize(&mut self) -> Done {
        for _ in 0..MOST {
            let next = self.world()?.letters().next().map(|letter| letter.number);
            let Some(number) = next else { return Ok(()) };
            self.act(|world| {
                world.deliver(number);
            })?;
        }
        Err("this goes round in circles".into())
    }

    fn clock(&mut self, node: &str, offset: &str) -> Done {
        let node = self.node(node)?;
        let is_behind = offset.starts_with('-');
        let millis = duration(offset.trim_start_matches(['+', '-']))?.as_millis() as i64;
        let offset = if is_behind { -millis } else { millis };
        self.act(|world| world.set_clock(node, offset))
    }

    fn status(&mut self) -> Done {
        let world = self.world()?;
        let mut lines = Vec::new();
        for node in world.all().filter(|node| world.is_replica(*node)) {
            let automaton = world.replica(node).and_then(|host| host.automaton());
            let status = automaton
                .map_or_else(|| "down".into(), |replica| world.system.show_status(replica));
            lines.push(format!("{}: {status}", world.name(node)));
        }
        for client in 0..world.setup().clients.len() {
            let automaton = world.client(client).and_then(|host| host.automaton());
            let status = automaton.and_then(|client| world.system.show_client(client));
            let name = world.name(world.client_node(client));
            lines.extend(status.map(|status| format!("{name}: {status}")));
        }
        self.print(lines);
        Ok(())
    }

    pub(super) fn print(&mut self, lines: Vec<String>) {
        for line in lines {
            let line = self.names.apply(&line);
            self.printed.push(line);
        }
    }

    fn wire(&mut self) -> Done {
        let letters: Vec<Letter> = self.world()?.letters().copied().collect();
        for letter in letters {
            let line = self.letter("→", &letter);
            self.printed.push(line);
        }
        Ok(())
    }

    pub(super) fn node(&mut self, name: &str) -> Result<NodeId, String> {
        let world = self.world()?;
        let found = world.all().find(|node| world.name(*node) == name);
        found.ok_or_else(|| format!("no node {name}"))
    }

    fn arrow(&mut self, arrow: &str) -> Result<(Option<NodeId>, Option<NodeId>), String> {
        let (from, to) = arrow.split_once("->").ok_or_else(|| format!("no arrow: {arrow}"))?;
        let mut end = |name: &str| if name == "*" { Ok(None) } else { self.node(name).map(Some) };
        Ok((end(from)?, end(to)?))
    }
}

/// How long a message takes in `run`.
const MESSAGE: Duration = Duration::from_millis(1);
