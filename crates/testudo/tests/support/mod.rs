//! Real clusters for tests: started with the command itself, driven through etcd's API, hurt with signals.
#![allow(dead_code)]

pub(crate) mod audience;
pub(crate) mod history;
pub(crate) mod hosts;
pub(crate) mod hurt;
pub(crate) mod troupe;
pub(crate) mod workload;

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Where the command is.
pub(crate) const TESTUDO: &str = env!("CARGO_BIN_EXE_testudo");

/// How long anything may take that has to come about at some time. A busy machine is no failure.
pub(crate) const EVENTUALLY: Duration = Duration::from_secs(120);

/// Clusters of one test program run one after the other: two of them would only measure each other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the command to its end.
pub(crate) fn testudo<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(TESTUDO)
        .args(arguments)
        .env_remove("TESTUDO_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

/// What an output's standard error says.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sends a signal by name (KILL, STOP, CONT, TERM, INT).
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.expect("a shell runs").success(), "signal {name} to {pid}");
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with(['Z', 'X']),
        Err(_) => false,
    }
}

/// Waits until `what` comes about.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + EVENTUALLY;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "this never came about: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until all replicas but these are well and have executed the same slot with the same digest, as status shows
/// them, and gives that slot.
pub(crate) fn agreement(
    status: impl Fn() -> Value,
    excepted: &[usize],
    said: impl Fn() -> String,
) -> u64 {
    let mut last = Value::Null;
    let deadline = Instant::now() + EVENTUALLY;
    while Instant::now() < deadline {
        last = status();
        let rows = last["replicas"].as_array().expect("status lists replicas");
        let rows = rows.iter().enumerate().filter(|(id, _)| !excepted.contains(id));
        let places: Vec<_> = rows
            .map(|(_, row)| {
                (row["digest"] == "equal" && row["claim"]["health"]["is"] == "well")
                    .then(|| row["compared_at"].as_u64().filter(|at| row["claim"]["slot"] == *at))
                    .flatten()
            })
            .collect();
        if let Some(Some(first)) = places.first().copied()
            && places.iter().all(|place| *place == Some(first))
        {
            return first;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    panic!("replicas never agreed: {last:#}\n{}", said());
}

/// A running `testudo up`.
pub(crate) struct Cluster {
    child: Child,
    /// Where etcd is served.
    pub(crate) etcd: String,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// All that it said after the ready line, and on standard error.
    said: Arc<Mutex<String>>,
}

impl Cluster {
    /// Starts one with these flags on any free port, and waits until it says that it is ready.
    pub(crate) fn up(flags: &[&str]) -> Self {
        let mut child = Command::new(TESTUDO)
            .args(["up", "--listen", "127.0.0.1:0"])
            .args(flags)
            .env_remove("TESTUDO_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let said = Arc::new(Mutex::new(String::new()));
        let mut stdout = BufReader::new(child.stdout.take().expect("its standard output is ours"));
        let stderr = BufReader::new(child.stderr.take().expect("its standard error is ours"));
        collect(stderr, said.clone());
        let (tell, ready) = mpsc::channel();
        let rest = said.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = tell.send(line);
            collect(stdout, rest);
        });
        let line = ready.recv_timeout(EVENTUALLY).unwrap_or_default();
        let parts = line.trim_end().strip_prefix("testudo ready etcd=");
        let Some((etcd, data)) = parts.and_then(|parts| parts.split_once(" data=")) else {
            let _ = child.kill();
            let _ = child.wait();
            std::thread::sleep(Duration::from_millis(200));
            panic!("not ready: {line:?}; it said:\n{}", said.lock().unwrap());
        };
        Self { child, etcd: etcd.into(), data: data.into(), said }
    }

    /// The process that supervises.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// What `status` finds, as JSON.
    pub(crate) fn status(&self) -> Value {
        let data = self.data.to_str().expect("its folder has a plain name");
        let output = testudo(&["status", "--data", data, "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("status gave no JSON, but: {}", said(&output)))
    }

    /// What a replica says of itself now, if it does.
    pub(crate) fn claim(&self, id: usize) -> Option<Value> {
        let claim = self.status()["replicas"][id]["claim"].take();
        claim.is_object().then_some(claim)
    }

    /// A replica's process.
    pub(crate) fn pid_of(&self, id: usize) -> u32 {
        eventually("a replica shows its process", || {
            self.claim(id).and_then(|claim| claim["pid"].as_u64()).map(|pid| pid as u32)
        })
    }

    /// A replica's process, found among the children of `up`, whatever it says of itself.
    pub(crate) fn child_of(&self, id: usize) -> Option<u32> {
        let data = path(&self.data.join(format!("replica-{id}")));
        std::fs::read_dir("/proc").expect("the system shows its processes").flatten().find_map(
            |it| {
                let pid: u32 = it.file_name().to_str()?.parse().ok()?;
                let words = std::fs::read(it.path().join("cmdline")).ok()?;
                words.split(|byte| *byte == 0).any(|word| word == data.as_bytes()).then_some(pid)
            },
        )
    }

    /// The replica that the gateway takes from what was decided.
    pub(crate) fn upstream(&self) -> usize {
        eventually("the gateway follows a replica", || {
            let standing = &self.status()["gateways"][0]["claim"]["standing"];
            (standing["is"] == "following").then(|| standing["at"].as_u64()).flatten()
        }) as usize
    }

    /// The primary that f+1 replicas agree on.
    pub(crate) fn primary(&self) -> usize {
        eventually("a primary is agreed on", || {
            self.status()["agreed"]["primary"].as_u64().map(|id| id as usize)
        })
    }

    /// Waits until all replicas but these have executed the same slot with the same digest.
    pub(crate) fn agree_but(&self, excepted: &[usize]) -> u64 {
        agreement(|| self.status(), excepted, || format!("up said:\n{}", self.said()))
    }

    /// Stops it with this signal, and gives its exit code.
    pub(crate) fn stop(mut self, name: &str) -> (Option<i32>, String) {
        signal(self.child.id(), name);
        let code = eventually("up ends", || self.child.try_wait().expect("it is our child"));
        (code.code(), self.said())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), "TERM");
            let deadline = Instant::now() + Duration::from_secs(30);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// One node that runs by itself.
pub(crate) struct Node(Child);

impl Node {
    /// Starts one.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(TESTUDO);
        command.args(arguments).env_remove("TESTUDO_LOG").stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).spawn().expect("the command starts"))
    }

    /// Stops it in good order, and gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        signal(self.0.id(), "TERM");
        eventually("a node ends", || self.0.try_wait().expect("it is our child")).code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports one after the other that nobody listens on, out of the range that outgoing connections take theirs from.
pub(crate) fn free_ports(count: u16) -> Vec<u16> {
    let start = 10_000 + (std::process::id() % 8_000) as u16;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = (start..20_000).find(|first| (*first..first + count).all(|port| is_free(&port)));
    let first = first.expect("some ports are free");
    (first..first + count).collect()
}

fn collect(mut from: impl std::io::Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            into.lock().unwrap().push_str(&text);
        }
    });
}

/// A folder of a test's own.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The path as a flag's value.
pub(crate) fn path(path: &Path) -> String {
    path.to_str().expect("a plain name").to_owned()
}
