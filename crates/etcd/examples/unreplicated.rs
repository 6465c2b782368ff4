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
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testudo_contracts::{Moment, Service};
use testudo_core::{ClusterId, Epoch, ReplicaId, Slot, Time, View};
use testudo_etcd::{Cluster, Copy, Gateway, GatewayInfo, Position, SubmitError};
use testudo_kv::Kv;
use testudo_state::Map;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often it looks whether the service wants a slot.
const PERIOD: Duration = Duration::from_millis(20);

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
    Arc::new(Copy { slot, time: now(), state: map.clone(), lineage: 0, taken: Instant::now() })
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Unreplicated {
    /// Executes one slot, of one operation or of none.
    fn slot(&self, operation: Option<&[u8]>) -> Vec<u8> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, slot) = &mut *state;
        let before = self.newest.borrow().as_ref().map_or(Time(0), |copy| copy.time);
        let time = now().max(before);
        slot.0 += 1;
        let moment = Moment { slot: *slot, time, elapsed: time.0 - before.0 };
        let service = Kv::default();
        service.advance(map, &moment);
        let result = operation.map(|bytes| service.execute(map, bytes, &moment));
        self.newest.send_replace(Some(copy(map, *slot)));
        result.unwrap_or_default()
    }

    /// Executes empty slots when the service wants them: leases expire though nobody asks.
    async fn attend(&self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let newest = self.newest.borrow().clone();
            let Some(copy) = newest else { continue };
            let elapsed = u64::try_from(copy.taken.elapsed().as_millis()).unwrap_or(u64::MAX);
            if Kv::default().due(&copy.state).is_some_and(|due| due <= elapsed) {
                self.slot(None);
            }
        }
    }
}

/// What the gateway reaches it by.
struct Link(Arc<Unreplicated>);

impl Cluster for Link {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        Ok(self.0.slot(Some(&operation)).into())
    }

    async fn read(&self) -> Result<Arc<Copy>, SubmitError> {
        self.latest()
    }

    fn latest(&self) -> Result<Arc<Copy>, SubmitError> {
        self.0.newest.borrow().clone().ok_or(SubmitError::NotReady)
    }

    fn updates(&self) -> watch::Receiver<Option<Arc<Copy>>> {
        self.0.newest.subscribe()
    }

    fn position(&self) -> Position {
        let slot = self.0.newest.borrow().as_ref().map_or(Slot(0), |copy| copy.slot);
        Position { epoch: Epoch(0), view: View(0), slot, primary: ReplicaId(0) }
    }
}

async fn serve(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("serving etcd v3 at {url}");
    let member = ("unreplicated".to_owned(), url.clone());
    let info = GatewayInfo::new(ClusterId([0; 16]), ReplicaId(0), [member], &[url]);
    let service = Arc::new(Unreplicated::new());
    let attended = service.clone();
    tokio::spawn(async move { attended.attend().await });
    Gateway::serve(listener, Link(service), info, async {
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
