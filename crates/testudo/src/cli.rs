//! What can be typed after `testudo`.

use crate::cluster::service::{read_compaction, read_quota};
use crate::failure::{Failure, Outcome};
use crate::lying::{self, Assignment, Lie};
use crate::recover::Given;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use testudo_kv::AutoCompaction;

/// The data folder of an `up` that names none.
pub(crate) const DATA: &str = "testudo-data";

const EXIT_CODES: &str = "\
Exit codes:
  0  done as asked (for `up`, `replica` and `gateway`: stopped as asked)
  1  something failed while it ran; the sentence on standard error says what (for `bench`: an operation failed; for
     `sim` and `explore`: a rule was broken; for `sim`: a fault never came about; for
     `evidence verify`: a file does not convict)
  2  refused: the flags, files or data do not fit, and trying again does not help
  3  status: the cluster can answer, but something is amiss
  4  up, status: no quorum of replicas answers";

/// State machine replication that survives crashes, lies and rot, with a coordination service for every etcd v3 client.
#[derive(Parser, Debug)]
#[command(name = "testudo", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to log: error, warn, info, debug or trace, or directives like `warn,testudo_runtime=debug`.
    #[arg(long, global = true, env = "TESTUDO_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine and serve etcd v3 until Ctrl-C.
    Up(Up),
    /// Make the cluster file and the key files of a cluster on hosts of its own.
    Init(Init),
    /// Run one replica.
    Replica(Replica),
    /// Run one gateway, which serves etcd v3.
    Gateway(Gateway),
    /// Show how the replicas of a cluster are, and who was caught lying.
    Status(Status),
    /// Check what proves that a replica lied, with public keys alone; or list what there is.
    Evidence(Evidence),
    /// Decide what a cluster goes on from that has stopped for good: more replicas have lost what they held than it survives, or
    /// they have halted, as no digest of their state can reach a quorum.
    Recover(Recover),
    /// Drive any etcd v3 endpoint, and print what it did and what it cost.
    Bench(crate::bench::BenchArgs),
    /// Run whole clusters with everything that can go wrong in one process, each from a number that repeats it.
    Sim(Box<crate::sim::Sim>),
    /// See all that can happen in a small configuration of an ordering.
    Explore(crate::explore::Explore),
    /// Run one replica that lies. Only on a cluster that `up` made for it.
    #[command(hide = true)]
    Liar(Liar),
}

const UP_EXAMPLES: &str = "\
Examples:
  testudo up                                  four replicas that survive one liar, etcd on 127.0.0.1:2379
  testudo up --faults 2                       seven replicas that survive two
  testudo up --ephemeral --liar 0=equivocate  the first primary lies, and nothing is kept
  testudo up --listen 127.0.0.1:0             etcd on any free port: the ready line says which

When the service answers, and not before, one line says so: `testudo ready etcd=ADDR data=DIR`.
Ctrl-C stops everything; a second Ctrl-C does not wait. The same --data goes on where it was left.
Kinds of liar: silent, equivocate, corrupt, stale, random.";

/// Flags of `up`.
#[derive(Args, Debug, Clone)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct Up {
    /// How many replicas may fail in any way, lying included [default: 1, or as the data has it]
    #[arg(long, value_name = "F")]
    pub(crate) faults: Option<u16>,
    /// How many replicas to run [default: as few as survive the faults (3F+1), or as the data has it]
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u16>,
    /// Where to serve etcd v3; port 0 takes any that is free.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2379")]
    pub(crate) listen: SocketAddr,
    /// Where keys, logs and state are kept.
    #[arg(long, value_name = "DIR", default_value = DATA, conflicts_with = "ephemeral")]
    pub(crate) data: PathBuf,
    /// Keep everything in a new temporary folder and remove it at the end.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Do not start a replica again that has died.
    #[arg(long)]
    pub(crate) no_restart: bool,
    /// How many seconds to wait for the first answer before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u32,
    #[command(flatten)]
    pub(crate) service: Service,
    /// Allow more liars than the cluster survives, to see what happens; no answer is promised then.
    #[arg(long)]
    pub(crate) beyond: bool,
    /// Let a replica lie, for tests and demonstrations; may be given for several.
    #[arg(long = "liar", value_name = "ID=KIND", value_parser = Assignment::read)]
    pub(crate) liars: Vec<Assignment>,
}

/// What the service of a new cluster begins with.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct Service {
    /// How many bytes the store may hold, history included: 512MiB, 2GiB [default: what fits into this machine's memory
    /// three times for each process on it, but no more than 2GiB; or as the data has it]
    #[arg(long, value_name = "BYTES", value_parser = read_quota)]
    pub(crate) quota: Option<u64>,
    /// What history to forget without being told: off, revisions=N for all but so many revisions, or period=TIME for
    /// what is older (30m, 1h, 7d) [default: off, or as the data has it]
    #[arg(long, value_name = "WHAT", value_parser = read_compaction)]
    pub(crate) auto_compaction: Option<AutoCompaction>,
}

const INIT_EXAMPLES: &str = "\
Example:
  testudo init --replicas a:7000,b:7000,c:7000,d:7000 --faults 1 --out cluster
  scp cluster/cluster.toml cluster/replica-0.key a:      and so on for each host
  testudo replica --cluster cluster.toml --key replica-0.key --data /var/lib/testudo      on each

Each replica shows how it is on the port after its own, in plain HTTP that only reads; edit `admin` in the cluster file
to move it, or remove the line to have none.";

/// Flags of `init`.
#[derive(Args, Debug, Clone)]
#[command(after_help = INIT_EXAMPLES)]
pub(crate) struct Init {
    /// Where the replicas reach each other: host:port of each, with commas between.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    pub(crate) replicas: Vec<String>,
    /// How many replicas may fail in any way, lying included.
    #[arg(long, value_name = "F", default_value_t = 1)]
    pub(crate) faults: u16,
    /// How many gateways to make keys for.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) gateways: u16,
    #[command(flatten)]
    pub(crate) service: Service,
    /// Where to write the files; must not hold a cluster yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Which protocol orders.
    #[arg(long, value_name = "NAME", default_value = crate::protocols::DEFAULT)]
    pub(crate) protocol: String,
}

/// What a node of any kind is told.
#[derive(Args, Debug, Clone)]
pub(crate) struct Node {
    /// The cluster file.
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: PathBuf,
    /// This node's key file, which says who it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Started by `up`: stop when standard input ends, and log to this file.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) supervised: Option<PathBuf>,
}

/// Flags of `replica`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Replica {
    #[command(flatten)]
    pub(crate) node: Node,
    /// Where its log and state are kept, and the voting keys that it makes; made when it is not there. It belongs to this
    /// replica: never copy it, or put an old one in its place.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where to listen for peers and gateways [default: the address that the cluster file gives it]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Where to serve /status and /metrics, in plain HTTP that only reads, or `off` [default: as the cluster file says]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
}

/// Flags of `gateway`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Gateway {
    #[command(flatten)]
    pub(crate) node: Node,
    /// Where to serve etcd v3. There is no authentication on it: take loopback, or a network that you trust.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2379")]
    pub(crate) listen: SocketAddr,
    /// Where etcd clients reach it, to be told to those that ask [default: as the cluster file says, or --listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// Where to serve /status and /metrics, in plain HTTP that only reads, or `off` [default: as the cluster file says]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
}

const STATUS_HELP: &str = "\
What a replica says of itself is a claim: a liar claims what it likes. Beside the claims stands what at least f+1
replicas agree on, one of which is honest. `health` says whether a replica is well, or at which slot it is behind, has
diverged from what a quorum signed, or has halted; how its disk is stands there, too, when flushes take long or something
on it was lost. `caught lying` names offences for which a replica is held to account: evidence that a replica shows is
checked here, with public keys alone. `testudo evidence` has the statements.

Gateways that the cluster file gives an `admin` address are shown, too: whom each follows, how many slots it lags, and
what its store holds. One that has diverged answers nothing until it has fetched a certified state.

Exit codes: 0 every replica is well and agrees, and gateways follow; 3 the cluster can answer, but a replica is
unreachable, is not well, differs, or was caught lying, or a gateway does not follow; 4 no quorum of replicas answers.";

/// Flags of `status`.
#[derive(Args, Debug, Clone)]
#[command(after_help = STATUS_HELP)]
pub(crate) struct Status {
    /// The cluster file.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) cluster: Option<PathBuf>,
    /// The data folder of an `up` [default: testudo-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

const RECOVER_HELP: &str = "\
A replica that has lost its disk, or the superblock on it, may have promised what it knows nothing of, and does not vote
before a quorum of the others has let it come back. Where more than F have, there is no such quorum, and none either for a
slot of which the logs of more than F have lost records. And where no digest of the state can reach a quorum any more, as
the results of too many differ, replicas halt. Then the cluster stops, and people must decide. Stop all replicas. This
command looks into their folders, changes nothing, and says

  what each replica knows;
  whether the cluster can go on by itself: then there is nothing to decide, and it is refused;
  whose state the cluster would go on from (the one that reaches furthest), and why;
  of replicas that have halted, whose states are the same and where results part: choose with --from;
  what would be lost, as far as anybody can know;
  who comes back under a new key; and how to carry it out.

With --yes that is carried out: what is decided is signed with the keys of a quorum of the replicas (2F+1 of 3F+1), and
the replica whose state was chosen begins the next epoch. Then start all of them as usual. The command can be ended at any
point and run again.

Examples:
  testudo recover                                the cluster of an `up` in testudo-data: explains, and proposes
  testudo recover --yes                          does what was proposed
  testudo recover --cluster cluster.toml --replica replica-0.key=/mnt/a --replica replica-1.key=/mnt/b \\
                  --replica replica-2.key=/mnt/c --replica replica-3.key=/mnt/d

Folders of hosts of their own are mounted, or copied here and the chosen one and those who come back copied back. An empty
folder stands for a disk that is lost.

Exit codes: 0 a proposal was made, or carried out; 1 something failed; 2 refused: a replica runs, nothing needs recovery,
there is nothing to go on from, or too few key files are at hand.";

/// Flags of `recover`.
#[derive(Args, Debug, Clone)]
#[command(after_help = RECOVER_HELP)]
pub(crate) struct Recover {
    /// The data folder of an `up` [default: testudo-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The cluster file of a cluster on hosts of its own.
    #[arg(long, value_name = "FILE", conflicts_with = "data", requires = "replicas")]
    pub(crate) cluster: Option<PathBuf>,
    /// A replica's key file and its data folder; give it for each.
    #[arg(long = "replica", value_name = "KEYFILE=DATADIR", value_parser = Given::read, requires = "cluster")]
    pub(crate) replicas: Vec<Given>,
    /// Go on from this replica's state, rather than from the one that reaches furthest.
    #[arg(long, value_name = "ID")]
    pub(crate) from: Option<u16>,
    /// Carry it out. Without it nothing is changed.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What to do with evidence.
#[derive(Args, Debug, Clone)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Evidence {
    #[command(subcommand)]
    pub(crate) what: EvidenceWhat,
}

/// The subcommands of `evidence`.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum EvidenceWhat {
    /// Check files of evidence with the cluster's public keys, and nobody's word.
    Verify(VerifyEvidence),
    /// List the evidence in data folders on this machine, or what the replicas of a cluster show.
    List(ListEvidence),
}

const VERIFY_HELP: &str = "\
A file of evidence holds statements that a replica signed and that no correct replica makes, whatever others do. Each is
checked against the voting key of the accused, and all together against the protocol's rules:
who it is, what it is convicted of, and why no correct replica could have said so. A replica whose disk or memory went
wrong and that was healed is never convicted: a state that differs is no evidence.

The cluster file has the voting keys of the first epoch. A replica that comes back has another one from then on, and a
new epoch begins; evidence of that epoch carries how each one before it ended, and is checked with it.

Replicas keep such files in the folder `evidence` of their data; `testudo evidence list` finds them.

Exit codes: 0 every file convicts; 1 one does not, and the sentence says why; 2 one cannot be read.";

/// Flags of `evidence verify`.
#[derive(Args, Debug, Clone)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct VerifyEvidence {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The cluster file, which has the public keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const LIST_HELP: &str = "\
With --data, files are listed: of one replica's folder, or of all replicas in the folder of an `up`. They are checked
when there is a cluster file in the folder or --cluster names one. With --cluster alone, the replicas are asked; what
each shows is checked here, so that a liar's accusation of an honest replica is seen for what it is.";

/// Flags of `evidence list`.
#[derive(Args, Debug, Clone)]
#[command(after_help = LIST_HELP)]
pub(crate) struct ListEvidence {
    /// A replica's data folder, or that of an `up` [default: testudo-data, unless --cluster is given]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The cluster file.
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `liar`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Liar {
    #[command(flatten)]
    pub(crate) replica: Replica,
    /// How it lies.
    #[arg(long, value_name = "KIND", value_parser = lying::read)]
    pub(crate) kind: Lie,
}

/// What was typed; `None` when it was a question (for help or the version) that is answered now.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Outcome<Option<Cli>> {
    let error = match Cli::try_parse_from(arguments) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    if !error.use_stderr() {
        // A reader that has left needs no help.
        let _ = error.print();
        return Ok(None);
    }
    Err(Failure::refused(sentence(&error)))
}

/// One sentence of what clap would say in several lines.
fn sentence(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        if error.to_string().contains("testudo evidence") {
            return "say what to do: `testudo evidence verify` checks files, `testudo evidence list` finds them".into();
        }
        return "say what to do: `testudo up` starts a cluster, `testudo --help` shows the rest"
            .into();
    }
    let text = error.to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or(&text);
    let said = said.split("\n\nFor more information").next().unwrap_or(said);
    let said = said.split("\n\n  tip:").next().unwrap_or(said);
    let mut words =
        said.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let near =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].iter().find_map(|kind| {
            match error.get(*kind) {
                Some(ContextValue::String(near)) => Some(near.clone()),
                Some(ContextValue::Strings(near)) => near.first().cloned(),
                _ => None,
            }
        });
    match near {
        Some(near) => words.push_str(&format!("; did you mean `{near}`?")),
        None => words.push_str("; `--help` shows what there is"),
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn refusal(words: &str) -> String {
        let words = words.split_whitespace().map(OsString::from);
        parse(std::iter::once("testudo".into()).chain(words)).unwrap_err().sentence
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_refusal_is_one_line_that_says_what_to_do() {
        for (words, what) in [
            ("", "testudo up"),
            ("statsu", "did you mean `status`"),
            ("up --fault 1", "did you mean `--faults`"),
            ("up --faults many", "invalid value 'many' for '--faults <F>'"),
            ("up --faults -1", "-1"),
            ("up --liar 0", "ID=KIND"),
            ("up --liar 0=sly", "silent, equivocate, corrupt, stale and random"),
            ("up --liar x=silent", "no number"),
            ("up --listen nowhere", "invalid value 'nowhere'"),
            ("up --ephemeral --data d", "cannot be used with"),
            ("up --quota 2GB", "is no number of bytes"),
            ("up --quota 1", "from 16MiB to 8GiB"),
            ("init --auto-compaction daily", "write off, revisions=10000 or period=1h"),
            ("init --replicas a:1", "--out <DIR>"),
            ("replica --cluster c --key k", "--data <DIR>"),
            ("status --data d --cluster c", "cannot be used with"),
        ] {
            let refusal = refusal(words);
            assert!(refusal.contains(what), "{words}: {refusal}");
            assert!(!refusal.contains('\n'), "{words}: {refusal}");
        }
    }

    #[test]
    fn the_command_for_liars_is_hidden() {
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("liar"), "{help}");
        assert!(help.contains("gateway"));
    }
}
