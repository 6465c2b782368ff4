//! Four replicas that run one by one, as on hosts of their own, and can be hurt one by one: killed, turned into liars,
//! given a rotten, full or slow disk.

use super::hosts::metric;
use super::{
    EVENTUALLY, Node, TESTUDO, agreement, eventually, folder, free_ports, path, said, signal,
    testudo,
};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the replica lies that is told to.
pub(crate) const LIE: &str = "corrupt";

/// The replicas, a gateway, and the folder that holds all of it.
pub(crate) struct Troupe {
    folder: tempfile::TempDir,
    actors: Vec<Actor>,
    gateway: Option<Node>,
    /// The cluster file.
    pub(crate) cluster: String,
    /// Where the gateway serves.
    pub(crate) etcd: String,
}

/// One replica.
struct Actor {
    child: Option<Child>,
    /// Where its data is now.
    data: PathBuf,
    /// Where its standard error goes.
    log: PathBuf,
}

/// What a replica is started as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    /// As it should be.
    Honest,
    /// As a liar.
    Liar,
    /// Honest, with this library between it and the system.
    Preloaded(&'a Path),
    /// Honest, and no file that it writes may be longer than so many bytes.
    Limited(u64),
}

impl Troupe {
    /// Makes a cluster in which one replica may be told to lie, and starts it, honest, with a gateway.
    pub(crate) fn start(liar: usize) -> Self {
        let folder = folder();
        let out = folder.path().join("cluster");
        let ports = free_ports(9);
        let addresses: Vec<String> =
            ports.iter().step_by(2).take(4).map(|port| format!("127.0.0.1:{port}")).collect();
        let output = testudo(&["init", "--replicas", &addresses.join(","), "--out", &path(&out)]);
        assert!(output.status.success(), "{}", said(&output));
        let file = out.join("cluster.toml");
        may_lie(&file, liar);
        let actor = |id: usize| Actor {
            child: None,
            data: folder.path().join(format!("data-{id}")),
            log: folder.path().join(format!("replica-{id}.log")),
        };
        let actors = (0..4).map(actor).collect();
        let etcd = format!("127.0.0.1:{}", ports[8]);
        let mut troupe = Self { folder, actors, gateway: None, cluster: path(&file), etcd };
        (0..4).for_each(|id| troupe.begin(id, Role::Honest));
        troupe.begin_gateway();
        troupe
    }

    /// Starts a gateway that knows nothing but the cluster file, in the place of the one that runs.
    pub(crate) fn begin_gateway(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            assert_eq!(gateway.stop(), Some(0));
        }
        let key = path(&self.folder.path().join("cluster/gateway-0.key"));
        let words = ["gateway", "--cluster", &self.cluster, "--key", &key, "--listen", &self.etcd];
        self.gateway = Some(Node::start(&[&words[..], &["--log", "warn"]].concat()));
    }

    /// A number that a replica shows among its metrics, 0 if it has none of that name.
    pub(crate) fn metric(&self, id: usize, name: &str) -> u64 {
        let cluster = std::fs::read_to_string(&self.cluster).expect("there is a cluster file");
        let admins = cluster.lines().filter_map(|line| line.strip_prefix("admin = "));
        let admin =
            admins.map(|admin| admin.trim_matches('"')).nth(id).expect("it has an admin port");
        metric(admin, name)
    }

    /// A place for a test's own things.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a replica that does not run.
    pub(crate) fn begin(&mut self, id: usize, role: Role<'_>) {
        let key = self.folder.path().join(format!("cluster/replica-{id}.key"));
        let actor = &mut self.actors[id];
        assert!(actor.child.is_none(), "replica {id} runs already");
        let mut command = match role {
            Role::Limited(bytes) => {
                // A write past the limit is an error and not a signal.
                let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
                let mut command = Command::new("/bin/dash");
                command.args(["-c", &limit, "sh", TESTUDO]);
                command
            }
            _ => Command::new(TESTUDO),
        };
        command.arg(if role == Role::Liar { "liar" } else { "replica" });
        command.args(["--cluster", &self.cluster, "--log", "info"]);
        command.arg("--key").arg(key).arg("--data").arg(&actor.data);
        if role == Role::Liar {
            command.args(["--kind", LIE]);
        }
        if let Role::Preloaded(library) = role {
            command.env("LD_PRELOAD", library);
        }
        let log = File::options().create(true).append(true).open(&actor.log);
        command.env_remove("TESTUDO_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.expect("its log can be written"));
        actor.child = Some(command.spawn().expect("the command starts"));
    }

    /// Ends a replica with this signal, and gives its exit code.
    pub(crate) fn end(&mut self, id: usize, name: &str) -> Option<i32> {
        signal(self.pid(id), name);
        self.ended(id)
    }

    /// Waits until a replica has ended, and gives its exit code.
    pub(crate) fn ended(&mut self, id: usize) -> Option<i32> {
        let deadline = Instant::now() + EVENTUALLY;
        loop {
            if let Some(code) = self.has_ended(id) {
                return code;
            }
            assert!(
                Instant::now() < deadline,
                "replica {id} never ended:\n{}",
                tail(&self.said(id))
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The exit code of a replica that has ended; `None` while it runs.
    pub(crate) fn has_ended(&mut self, id: usize) -> Option<Option<i32>> {
        let child = self.actors[id].child.as_mut().expect("it was started");
        let status = child.try_wait().expect("it is our child")?;
        self.actors[id].child = None;
        Some(status.code())
    }

    /// A replica's process.
    pub(crate) fn pid(&self, id: usize) -> u32 {
        self.actors[id].child.as_ref().expect("it was started").id()
    }

    /// All that a replica has logged.
    pub(crate) fn said(&self, id: usize) -> String {
        std::fs::read_to_string(&self.actors[id].log).unwrap_or_default()
    }

    /// Where a replica's data is.
    pub(crate) fn data(&self, id: usize) -> &Path {
        &self.actors[id].data
    }

    /// Copies the data of a replica that does not run.
    pub(crate) fn copy_data(&self, id: usize, to: &Path) {
        let actor = &self.actors[id];
        assert!(actor.child.is_none(), "replica {id} runs");
        copy_folder(&actor.data, to).expect("its data is copied");
    }

    /// Moves the data of a replica that does not run.
    pub(crate) fn move_data(&mut self, id: usize, to: &Path) {
        self.copy_data(id, to);
        let actor = &mut self.actors[id];
        // There is never more than one copy of what a replica has promised.
        std::fs::remove_dir_all(&actor.data).expect("the first is removed");
        actor.data = to.to_owned();
    }

    /// The files of a replica's log folder whose names end so, in order.
    pub(crate) fn files(&self, id: usize, ending: &str) -> Vec<PathBuf> {
        let folder = self.data(id).join("log");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.to_str().is_some_and(|name| name.ends_with(ending)));
        paths.sort();
        paths
    }

    /// What `status` finds, as JSON.
    pub(crate) fn status(&self) -> Value {
        let output = testudo(&["status", "--cluster", &self.cluster, "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("status gave no JSON, but: {}", said(&output)))
    }

    /// The evidence that replicas keep as files, once there is some.
    pub(crate) fn evidence(&self) -> Vec<String> {
        eventually("evidence is kept", || {
            let folders = self.actors.iter().map(|actor| actor.data.join("evidence"));
            let entries = folders.filter_map(|it| std::fs::read_dir(it).ok()).flatten().flatten();
            let files = entries.map(|entry| path(&entry.path()));
            let files: Vec<_> = files.filter(|file| file.ends_with(".evidence")).collect();
            (!files.is_empty()).then_some(files)
        })
    }

    /// Whom of the replicas anybody blames for anything.
    pub(crate) fn accused(&self) -> Vec<usize> {
        let status = self.status();
        let rows = status["replicas"].as_array().expect("rows");
        let is_accused = |id: &usize| rows[*id]["caught"] != serde_json::json!([]);
        (0..rows.len()).filter(is_accused).collect()
    }

    /// What `status` says of a replica.
    pub(crate) fn row(&self, id: usize) -> Value {
        self.status()["replicas"][id].take()
    }

    /// The primary that f+1 replicas agree on.
    pub(crate) fn primary(&self) -> usize {
        eventually("a primary is agreed on", || {
            self.status()["agreed"]["primary"].as_u64().map(|id| id as usize)
        })
    }

    /// Waits until a replica is well and has executed what the others have, while they go on.
    pub(crate) fn healed(&self, id: usize) {
        let mut last = Value::Null;
        let deadline = Instant::now() + EVENTUALLY;
        while Instant::now() < deadline {
            last = self.row(id);
            let is_well = last["claim"]["health"]["is"] == "well";
            let is_near = last["lag"].as_u64().is_some_and(|lag| lag < 32);
            if is_well && is_near && last["digest"] == "equal" {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("replica {id} was never healed: {last:#}\nit said:\n{}", tail(&self.said(id)));
    }

    /// Waits until all replicas have executed the same slot with the same digest.
    pub(crate) fn agree(&self) -> u64 {
        let logs = || {
            let tail = |id| format!("--- replica {id}\n{}", tail(&self.said(id)));
            (0..4).map(tail).collect::<Vec<_>>().join("\n")
        };
        agreement(|| self.status(), &[], logs)
    }

    /// Stops all in good order.
    pub(crate) fn stop(mut self) {
        if let Some(gateway) = self.gateway.take() {
            assert_eq!(gateway.stop(), Some(0));
        }
        for id in 0..4 {
            assert_eq!(self.end(id, "TERM"), Some(0), "{}", tail(&self.said(id)));
        }
    }
}

impl Drop for Troupe {
    fn drop(&mut self) {
        for child in self.actors.iter_mut().filter_map(|actor| actor.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Marks a cluster as one in which that replica may lie, as `up --liar` would.
fn may_lie(file: &Path, id: usize) {
    let text = std::fs::read_to_string(file).expect("there is a cluster file");
    let place = format!("[[replica]]\nid = {id}\n");
    assert!(text.contains(&place) && text.contains("\nfaults = 1\n"), "{text}");
    let text = text.replace(&place, &format!("{place}liar = \"{LIE}\"\n"));
    let text = text.replace("\nfaults = 1\n", "\nfaults = 1\ndemonstration = true\n");
    std::fs::write(file, text).expect("it is written");
}

/// Copies a folder with all that is in it. There are no links in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
