//! `testudo replica` and `testudo liar`: one replica, on a host of its own or as a child of `up`.

mod history;
mod identity;
mod notices;

pub(crate) use identity::Identity;

use crate::cli;
use crate::cluster::Address;
use crate::failure::{Failure, Outcome, plain};
use crate::logging;
use crate::lying::{self, Lie};
use crate::protocols::{self, Runnable, Visit};
use crate::say;
use crate::signals::Ends;
use crate::status::claim::{self, Claim};
use history::History;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testudo_contracts::{OrderConfig, Standing};
use testudo_core::{Encode as _, Epoch, ReplicaId};
use testudo_kv::Kv;
use testudo_replication::{Config, Replica};
use testudo_runtime::{NodeConfig, NodeHandle, Probe, StartError, node};

/// How long a replica that was told to stop may take before it is ended all the same.
const PATIENCE: Duration = Duration::from_secs(6);

/// Runs a replica until it is told to stop.
pub(crate) fn run(flags: &cli::Replica, lie: Option<Lie>, log: &str) -> Outcome {
    match &flags.node.supervised {
        Some(file) => logging::to_file(log, file)?,
        None => logging::to_stderr(log)?,
    }
    let identity = Identity::load(&flags.node)?;
    let me = identity.replica()?;
    if lie.is_some() {
        refuse_honest_company(flags, &identity, me, lie)?;
    }
    let protocol = identity.cluster.protocol.clone();
    protocols::visit(&protocol, Run { flags, lie, identity, me })?
}

/// Nobody lies but who was told to by `up`, on a cluster that `up` made for it.
fn refuse_honest_company(
    flags: &cli::Replica,
    identity: &Identity,
    me: ReplicaId,
    lie: Option<Lie>,
) -> Outcome {
    let file = flags.node.cluster.display();
    if !identity.cluster.demonstration {
        return Err(Failure::refused(format!(
            "{file} is not marked as a demonstration, and nobody lies on a real cluster; \
             `testudo up --liar` makes one to lie on"
        )));
    }
    if identity.cluster.replica(me.0).and_then(|replica| replica.liar) != lie {
        return Err(Failure::refused(format!(
            "{file} does not say that replica {me} lies like that; `testudo up --liar` decides who lies"
        )));
    }
    Ok(())
}

struct Run<'a> {
    flags: &'a cli::Replica,
    lie: Option<Lie>,
    identity: Identity,
    me: ReplicaId,
}

impl Visit for Run<'_> {
    type Output = Outcome;

    fn visit<O: Runnable>(self) -> Outcome {
        let ends = Ends::watch(self.flags.node.supervised.is_some())?;
        let data = self.flags.data.clone();
        let node = self.start::<O>().map_err(|error| refine(error, &data))?;
        tracing::info!(address = %node.address(), "the replica runs");
        let outcome = ends.wait(async {
            let fatal = node.failed().await;
            Failure::failed(format!("the replica stops: {fatal}"))
        });
        // Whatever hangs on the way out must not keep the process alive.
        std::thread::spawn(|| {
            std::thread::sleep(PATIENCE);
            say::err(format_args!("the replica did not stop in good order, and is ended"));
            std::process::exit(1);
        });
        node.shutdown();
        tracing::info!("the replica has stopped");
        outcome
    }
}

/// What went wrong at the start, as a failure. What no second attempt would mend is a refusal.
fn refine(error: Starting, data: &Path) -> Failure {
    let error = match error {
        Starting::Refused(failure) => return failure,
        Starting::Node(error) => error,
    };
    let text: Vec<String> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
    let sentence = format!("cannot start on {}: {}", data.display(), text.join("; "));
    match error {
        StartError::Keys(_) | StartError::Folder(testudo_runtime::FolderError::Foreign { .. }) => {
            Failure::refused(sentence)
        }
        StartError::Keyring(error) if error.is_for_people() => Failure::refused(sentence),
        _ => Failure::failed(sentence),
    }
}

enum Starting {
    Refused(Failure),
    Node(StartError),
}

impl From<Failure> for Starting {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl From<StartError> for Starting {
    fn from(error: StartError) -> Self {
        Self::Node(error)
    }
}

impl Run<'_> {
    fn start<O: Runnable>(self) -> Result<NodeHandle<Replica<O, Kv>>, Starting> {
        let Run { flags, lie, identity, me } = self;
        let cluster = &identity.cluster;
        let entry = cluster.replica(me.0).ok_or_else(|| Failure::refused("no such replica"))?;
        let listener = listen(flags.listen.as_deref(), &entry.address)?;
        let admin = match (flags.admin.as_deref(), &entry.admin) {
            (Some("off"), _) | (None, None) => None,
            (given, own) => Some(listen(given, own.as_ref().unwrap_or(&entry.address))?),
        };
        let outgoing = match lie {
            None => None,
            Some(lie) => {
                tracing::warn!("this replica lies ({lie}): it is a demonstration");
                let says = lying::tamper::outgoing::<O::Message>(lie, me, cluster.replicas.len())?;
                Some(node::Lie(says))
            }
        };
        let history = Arc::new(History::open(&flags.data));
        let membership = cluster.membership()?;
        let clients = cluster.clients();
        let config = NodeConfig {
            clients: Some(clients.clone()),
            name: format!("replica-{me}"),
            data: flags.data.clone(),
            key: identity.key.clone(),
            domain: cluster.domain(),
            membership: membership.clone(),
            me,
            addresses: identity.addresses(),
            listener,
            metrics: admin,
            verifiers: 0,
            scrub: testudo_runtime::node::SCRUB,
            outgoing,
            probe: probe::<O>(cluster.id.to_string(), history.clone(), lie),
        };
        let order = OrderConfig::new(cluster.domain(), membership);
        let service = Kv::new(cluster.service);
        let automaton = Config { order, clients, service, decree: None };
        let outputs = move |event| history.take(event);
        Ok(node::start::<Replica<O, Kv>>(config, automaton, outputs)?)
    }
}

/// How the automaton is looked at.
fn probe<O: Runnable>(
    cluster: String,
    history: Arc<History>,
    lie: Option<Lie>,
) -> Probe<Replica<O, Kv>> {
    let numbers = history.clone();
    let lies = lying::claims::Claims::new(lie);
    Probe {
        lineage: Box::new(|replica, epoch| match epoch {
            Epoch(0) => Vec::new(),
            epoch => replica.lineage(epoch).to_vec().to_bytes(),
        }),
        status: Box::new(move |replica| {
            lies.told(Claim::of(&cluster, &replica.status(), history.show()))
        }),
        ready: Box::new(|replica| {
            let status = replica.status();
            let is_well = status.health == testudo_replication::Health::Well;
            let votes = status.standing == Standing::Voting;
            is_well && votes && !status.changing_view && status.slot == status.known
        }),
        numbers: Box::new(move |replica| {
            let status = replica.status();
            let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let (sets, accused) = numbers.evidence();
            let transfer = status.transfer.unwrap_or_default();
            vec![
                ("standing", standing_number(status.standing)),
                ("epoch", number(status.epoch.0)),
                ("incarnation", number(status.incarnation.0)),
                ("comeback", comeback_number(&claim::Comeback::of(&status))),
                ("lost_slots", number(status.lost_slots)),
                ("healed", number(numbers.healings())),
                ("transfer_target_slot", number(transfer.target.0)),
                ("transfer_fetched_bytes", number(transfer.fetched.bytes)),
                ("transfer_state_bytes", number(transfer.bytes)),
                ("behind_slots", number(status.known.0.saturating_sub(status.slot.0))),
                ("health", health_number(status.health)),
                ("halted_slot", number(halted_slot(status.health))),
                ("halted_differing", number(halted_differing(&status))),
                ("evidence_sets", number(sets)),
                ("evidence_accused", number(accused)),
                ("view", number(status.view.0)),
                ("slot", number(status.slot.0)),
                ("known_slot", number(status.known.0)),
                ("waiting_bundles", number(status.waiting)),
                ("sessions", number(status.sessions)),
                ("state_entries", number(status.state.0)),
                ("state_bytes", number(status.state.1)),
            ]
        }),
    }
}

/// A replica's health as a number that alarms can be set on: anything but 0 wants looking at.
const fn health_number(health: testudo_replication::Health) -> i64 {
    use testudo_replication::Health;
    match health {
        Health::Well => 0,
        Health::Behind(_) => 1,
        Health::Diverged(_) => 2,
        Health::Halted(_) => 3,
    }
}

/// The slot at which a replica has stopped, as no digest of it can reach a quorum; 0 if it has not.
const fn halted_slot(health: testudo_replication::Health) -> u64 {
    match health {
        testudo_replication::Health::Halted(slot) => slot.0,
        _ => 0,
    }
}

/// How many others have other results than a replica that has stopped, as far as they have told.
fn halted_differing(status: &testudo_replication::Status) -> u64 {
    let halt = status.halt.as_ref().map(claim::Halt::of);
    halt.map_or(0, |halt| halt.differing().len() as u64)
}

/// A replica's standing as a number that alarms can be set on: 0 when it votes.
const fn standing_number(standing: Standing) -> i64 {
    match standing {
        Standing::Voting => 0,
        Standing::Joining => 1,
        Standing::Forgotten => 2,
        Standing::Stopped => 3,
    }
}

/// What a replica does to get its vote back, as a number that alarms can be set on: from 3 on a person is wanted.
const fn comeback_number(comeback: &claim::Comeback) -> i64 {
    use claim::Comeback;
    match comeback {
        Comeback::NotNeeded => 0,
        Comeback::Follows => 1,
        Comeback::Asks { .. } => 2,
        Comeback::Refused { .. } => 3,
        Comeback::NoKey => 4,
    }
}

/// Listens at the address that was given, or else at the cluster file's.
fn listen(given: Option<&str>, own: &Address) -> Outcome<TcpListener> {
    let address = match given {
        None => own.to_string(),
        Some(text) => match text.rsplit_once(':') {
            Some(_) => text.to_owned(),
            None => {
                return Err(Failure::refused(format!("`{text}` has no port; write host:port")));
            }
        },
    };
    TcpListener::bind(&address)
        .map_err(|error| Failure::failed(format!("cannot listen on {address}: {}", plain(&error))))
}
