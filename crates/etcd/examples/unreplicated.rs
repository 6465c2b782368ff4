//! A gateway in front of nothing: the coordination service in the gateway's own process, executed
//! where it is asked, neither ordered nor stored.
//!
//! It shows what the gateway itself costs, and lets clients be tried without a cluster:
//!
//! ```text
//! cargo run --release -p testudo-etcd --example unreplicated -- 127.0.0.1:2379
//! ```

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use testudo_contracts::{Moment, Service};
use testudo_core::{ClusterId, ReplicaId, Slot, Time, View};
use testudo_etcd::{Cluster, Copy, Gateway, GatewayInfo, Position, SubmitError};
use testudo_kv::Kv;
use testudo_state::Map;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The service, executed under a lock.
struct Unreplicated {
    state: Mutex<(Map, Slot)>,
    newest: watch::Sender<Option<Arc<Copy>>>,
}

impl Unreplicated {
    fn new() -> Self {
        let mut map = Map::new();
        Kv::default().genesis(&mut map);
        let newest = watch::Sender::new(Some(copy(&map, Slot(0))));
        Self { state: Mutex::new((map, Slot(0))), newest }
    }
}

fn copy(map: &Map, slot: Slot) -> Arc<Copy> {
    Arc::new(Copy { slot, time: now(), state: map.clone(), taken: Instant::now() })
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Cluster for Unreplicated {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, slot) = &mut *state;
        let before = self.newest.borrow().as_ref().map_or(Time(0), |copy| copy.time);
        let time = now().max(before);
        slot.0 += 1;
        let moment = Moment { slot: *slot, time, elapsed: time.0 - before.0 };
        Kv::default().advance(map, &moment);
        let result = Kv::default().execute(map, &operation, &moment);
        self.newest.send_replace(Some(copy(map, *slot)));
        Ok(result.into())
    }

    async fn read(&self) -> Result<Arc<Copy>, SubmitError> {
        self.latest()
    }

    fn latest(&self) -> Result<Arc<Copy>, SubmitError> {
        self.newest.borrow().clone().ok_or(SubmitError::NotReady)
    }

    fn updates(&self) -> watch::Receiver<Option<Arc<Copy>>> {
        self.newest.subscribe()
    }

    fn position(&self) -> Position {
        let slot = self.newest.borrow().as_ref().map_or(Slot(0), |copy| copy.slot);
        Position { view: View(0), slot, primary: ReplicaId(0) }
    }
}

async fn serve(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("serving etcd v3 at {url}");
    let member = ("unreplicated".to_owned(), url.clone());
    let info = GatewayInfo::new(ClusterId([0; 16]), ReplicaId(0), [member], &[url]);
    Gateway::serve(listener, Unreplicated::new(), info, async {
        // Without the signal it runs until it is killed.
        let _signal = tokio::signal::ctrl_c().await;
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    match serve(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot serve at {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
