//! When a process is told to end: by a signal, or, as a child of `up`, by the end of its standard input.

use crate::failure::{Failure, Outcome};
use std::future::Future;
use std::io::Read as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The signals that ask for an end: Ctrl-C, and what service managers send.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to catch them. Needs an event loop around it.
    pub(crate) fn catch() -> Outcome<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// The next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The ways in which a node that runs on threads of its own is ended.
pub(crate) struct Ends {
    runtime: Runtime,
    signals: Signals,
    /// Only what has a parent ends with it.
    parent: Option<oneshot::Receiver<()>>,
}

impl Ends {
    /// Begins to watch. A supervised process ends with its standard input.
    pub(crate) fn watch(is_supervised: bool) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        let signals = {
            let _inside = runtime.enter();
            Signals::catch()?
        };
        let parent = if is_supervised { Some(parent()?) } else { None };
        Ok(Self { runtime, signals, parent })
    }

    /// Waits for an end that is asked for, or for a failure.
    pub(crate) fn wait(mut self, failure: impl Future<Output = Failure>) -> Outcome {
        self.runtime.block_on(async {
            let parent = async {
                match &mut self.parent {
                    Some(gone) => _ = gone.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.signals.next() => Ok(()),
                () = parent => Ok(()),
                failure = failure => Err(failure),
            }
        })
    }
}

/// Tells when the parent is gone or wants an end.
fn parent() -> Outcome<oneshot::Receiver<()>> {
    let (gone, ended) = oneshot::channel();
    let wait = move || {
        let mut buffer = [0; 64];
        let mut input = std::io::stdin();
        // What the parent writes means nothing; an error says that it is gone just as its end does.
        while matches!(input.read(&mut buffer), Ok(1..)) {}
        // Whoever waited has found another reason.
        let _ = gone.send(());
    };
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(wait)
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    Ok(ended)
}
