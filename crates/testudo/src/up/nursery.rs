//! All replicas of an `up`.

use super::child::{self, Notice, Order, Spec};
use super::folder::Folder;
use crate::cli;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome, plain};
use crate::init::replica_key;
use crate::say;
use std::collections::BTreeMap;
use std::ffi::OsString;
use testudo_quorum::Dissemination;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Notices that wait to be read before children must wait with saying more.
const NOTICES: usize = 256;

/// How the sentence begins with which this program ends when it fails.
const LAST_WORD: &str = "testudo: ";

/// The replicas, as processes.
pub(crate) struct Nursery {
    order: watch::Sender<Order>,
    notices: mpsc::Receiver<Notice>,
    keepers: JoinSet<()>,
    /// Process ids of those that run.
    running: BTreeMap<u16, u32>,
    replicas: usize,
    quorum: usize,
    /// Whether the cluster serves. From then on one replica's refusal to run is its own matter.
    pub(crate) is_serving: bool,
}

impl Nursery {
    /// Starts all replicas of the cluster in the folder.
    pub(crate) fn start(
        cluster: &Cluster,
        folder: &Folder,
        flags: &cli::Up,
        log: &str,
    ) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!(
                "cannot find this program to start replicas: {}",
                plain(&error)
            ))
        })?;
        let quorums = Dissemination::of(&cluster.membership()?)
            .ok_or_else(|| Failure::refused("a cluster of this size has no quorums"))?;
        let (order, orders) = watch::channel(Order::Run);
        let (tell, notices) = mpsc::channel(NOTICES);
        let mut keepers = JoinSet::new();
        for replica in &cluster.replicas {
            let mut arguments: Vec<OsString> = Vec::new();
            let mut say = |word: OsString| arguments.push(word);
            say(if replica.liar.is_some() { "liar" } else { "replica" }.into());
            if let Some(lie) = replica.liar {
                say("--kind".into());
                say(lie.name().into());
            }
            for (flag, path) in [
                ("--cluster", folder.cluster_file()),
                ("--key", replica_key(&folder.keys(), replica.id)),
                ("--data", folder.replica(replica.id)),
                ("--supervised", folder.log(replica.id)),
            ] {
                say(flag.into());
                say(path.into());
            }
            say("--log".into());
            say(log.into());
            let restart = !flags.no_restart;
            let spec = Spec { id: replica.id, program: program.clone(), arguments, restart };
            keepers.spawn(child::keep(spec, tell.clone(), orders.clone()));
        }
        Ok(Self {
            order,
            notices,
            keepers,
            running: BTreeMap::new(),
            replicas: cluster.replicas.len(),
            is_serving: false,
            quorum: quorums.quorum(),
        })
    }

    /// Tells what happens to the replicas on standard error, until one refuses to run.
    pub(crate) async fn watch(&mut self) -> Failure {
        loop {
            match self.notices.recv().await {
                Some(notice) => {
                    if let Some(failure) = self.take(notice) {
                        return failure;
                    }
                }
                // No keeper is left: all replicas have died and are not started again.
                None => return Failure::no_quorum("no replica runs any more"),
            }
        }
    }

    fn take(&mut self, notice: Notice) -> Option<Failure> {
        match notice {
            Notice::Started(id, pid) => {
                self.running.insert(id, pid);
                None
            }
            // What it says last is told with its death.
            Notice::Said(_, line) if line.starts_with(LAST_WORD) => None,
            Notice::Said(id, line) => {
                say::err(format_args!("replica {id}: {line}"));
                None
            }
            Notice::Died { id, how, is_refusal, last, again } => {
                let pid = self.running.remove(&id);
                let why = last.last().and_then(|line| line.strip_prefix(LAST_WORD));
                if is_refusal && !self.is_serving {
                    let why = why.or(last.last().map(String::as_str)).unwrap_or_default();
                    return Some(Failure::refused(format!("replica {id} refuses to run: {why}")));
                }
                let how = why.map_or(how.clone(), |why| format!("{how}: {why}"));
                let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                let next = match again {
                    Some(wait) => format!("starting it again in {} s", wait.as_secs_f32()),
                    None => "it is not started again".into(),
                };
                say::err(format_args!("replica {id}{pid} {how}; {next}"));
                self.warn();
                None
            }
        }
    }

    /// Says so when too few replicas are left.
    fn warn(&self) {
        let (running, quorum) = (self.running.len(), self.quorum);
        if running < quorum {
            say::err(format_args!(
                "{running} of {} replicas run and {quorum} are needed: \
                 nothing is answered until enough are back",
                self.replicas
            ));
        }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// How many must.
    pub(crate) const fn quorum(&self) -> usize {
        self.quorum
    }

    /// The process id of a replica that runs.
    pub(crate) fn pid(&self, id: u16) -> Option<u32> {
        self.running.get(&id).copied()
    }

    /// Stops all in good order.
    pub(crate) async fn stop(&mut self) {
        self.end(Order::Stop).await;
    }

    /// Ends all at once.
    pub(crate) async fn kill(&mut self) {
        self.end(Order::Die).await;
    }

    async fn end(&mut self, order: Order) {
        self.order.send_replace(order);
        // Nobody must be kept from ending because nobody reads what it says.
        self.notices.close();
        while self.keepers.join_next().await.is_some() {}
    }
}
