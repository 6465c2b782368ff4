//! One replica as a child process, kept alive.
//!
//! Its standard input is a pipe that nobody writes to. When it ends, the child stops: so it is told to stop, and so it
//! finds out that its parent is gone, however that happened. It has a process group of its own, so that Ctrl-C in the
//! terminal reaches `up` alone, which stops its children in good order.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a child waits before it is started again after it died for the first time; twice that after each next.
const BACK_OFF: Duration = Duration::from_millis(250);

/// The longest such wait.
const BACK_OFF_MOST: Duration = Duration::from_secs(8);

/// A child that has run for so long starts with the shortest wait again.
const STEADY: Duration = Duration::from_secs(30);

/// How long a child may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(8);

/// Lines of a child's standard error that are remembered for the report of its death.
const LAST_LINES: usize = 5;

/// How a child is started.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// Which replica it is.
    pub(crate) id: u16,
    /// This program.
    pub(crate) program: PathBuf,
    /// What it is told.
    pub(crate) arguments: Vec<OsString>,
    /// Whether it is started again when it died.
    pub(crate) restart: bool,
}

/// What happens to children.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// It runs, under this process id.
    Started(u16, u32),
    /// It said this on its standard error.
    Said(u16, String),
    /// It died.
    Died {
        /// Which replica it was.
        id: u16,
        /// What became of it, in words.
        how: String,
        /// Whether it refuses to run as it is told, so that another start would not help.
        is_refusal: bool,
        /// What it said last.
        last: Vec<String>,
        /// After how long it is started again, if it is.
        again: Option<Duration>,
    },
}

/// What children are to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Order {
    /// Run.
    Run,
    /// Come to an end in good order.
    Stop,
    /// End at once.
    Die,
}

/// Runs the child until it is ordered to stop, or died and is not to be started again.
pub(crate) async fn keep(
    spec: Spec,
    notices: mpsc::Sender<Notice>,
    mut order: watch::Receiver<Order>,
) {
    let mut wait = BACK_OFF;
    while *order.borrow() == Order::Run {
        let since = Instant::now();
        let end = match start(&spec) {
            Ok(mut child) => {
                let pid = child.id().unwrap_or_default();
                let lines = listen(spec.id, child.stderr.take(), notices.clone());
                tell(&notices, Notice::Started(spec.id, pid)).await;
                let input = child.stdin.take();
                let status = live(&mut child, input, &mut order).await;
                let last = timeout(Duration::from_secs(1), lines).await;
                (status, last.ok().and_then(Result::ok).unwrap_or_default())
            }
            Err(error) => (Err(error), Vec::new()),
        };
        if *order.borrow() > Order::Run {
            return;
        }
        if since.elapsed() >= STEADY {
            wait = BACK_OFF;
        }
        let (status, last) = end;
        let is_refusal = status.as_ref().is_ok_and(|status| status.code() == Some(2));
        let again = (spec.restart && !is_refusal).then_some(wait);
        let how = words(&status);
        tell(&notices, Notice::Died { id: spec.id, how, is_refusal, last, again }).await;
        let Some(delay) = again else { return };
        tokio::select! {
            () = sleep(delay) => {}
            _ = order.changed() => {}
        }
        wait = (wait * 2).min(BACK_OFF_MOST);
    }
}

fn start(spec: &Spec) -> std::io::Result<Child> {
    Command::new(&spec.program)
        .args(&spec.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Until it has ended, by itself or as ordered. Its standard input is no longer its handle's, which would close it when
/// somebody waits.
async fn live(
    child: &mut Child,
    mut input: Option<ChildStdin>,
    order: &mut watch::Receiver<Order>,
) -> std::io::Result<ExitStatus> {
    loop {
        let changed = tokio::select! {
            status = child.wait() => return status,
            changed = order.changed() => changed,
        };
        // An order that nobody can give any more is an order to stop.
        let now = if changed.is_ok() { *order.borrow() } else { Order::Stop };
        match now {
            Order::Run => {}
            Order::Stop => {
                drop(input.take());
                let ended = tokio::select! {
                    ended = timeout(PATIENCE, child.wait()) => ended.ok(),
                    _ = order.wait_for(|order| *order == Order::Die) => None,
                };
                if let Some(status) = ended {
                    return status;
                }
                child.kill().await?;
            }
            Order::Die => child.kill().await?,
        }
    }
}

/// Hands on what a child says on standard error, and gives its last lines at the end.
fn listen(
    id: u16,
    stderr: Option<impl AsyncRead + Unpin + Send + 'static>,
    notices: mpsc::Sender<Notice>,
) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut last = VecDeque::new();
        let Some(stderr) = stderr else { return Vec::new() };
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.clone());
            tell(&notices, Notice::Said(id, line)).await;
        }
        last.into()
    })
}

async fn tell(notices: &mpsc::Sender<Notice>, notice: Notice) {
    // At the end nobody listens any more, and nothing is lost by that.
    let _ = notices.send(notice).await;
}

fn words(status: &std::io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => format!("could not be run: {}", crate::failure::plain(error)),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".into(),
        },
    }
}
