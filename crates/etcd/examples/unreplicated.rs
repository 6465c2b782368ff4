//! A gateway in front of nothing: the coordination service in the gateway's own process, executed
//! where it is asked, neither ordered nor stored.
//!
//! It shows what the gateway itself costs, and lets clients be tried without a cluster:
//!
//! ```text
//! cargo run --release -p testudo-etcd --example unreplicated -- 127.0.0.1:2379
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::{ClusterId, ReplicaId, Slot, Time, View};
use testudo_etcd::{Gateway, GatewayInfo, Position, Submit, SubmitError};
use testudo_kv::Kv;
use tokio::net::TcpListener;

#[derive(Default)]
struct Memory(BTreeMap<Vec<u8>, Arc<[u8]>>);

impl Reading for Memory {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.0.get(key).cloned()
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        let mut range = self.0.range::<[u8], _>((from, to));
        let mut next = || if reverse { range.next_back() } else { range.next() };
        while let Some((key, value)) = next() {
            if !visit(key, value) {
                return;
            }
        }
    }
}

impl Store for Memory {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.0.insert(key.to_vec(), value);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.0.remove(key).is_some()
    }
}

/// The store, and how many operations it has executed.
struct Unreplicated(Mutex<(Memory, u64)>);

impl Submit for Unreplicated {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (memory, slot) = &mut *state;
        *slot += 1;
        let moment = Moment { slot: Slot(*slot), time: Time(*slot), elapsed: 0 };
        Ok(Kv::default().execute(memory, &operation, &moment).into())
    }

    fn position(&self) -> Position {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner).1;
        Position { view: View(0), slot: Slot(slot), primary: ReplicaId(0) }
    }
}

async fn serve(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("serving etcd v3 at {url}");
    let member = ("unreplicated".to_owned(), url.clone());
    let info = GatewayInfo::new(ClusterId([0; 16]), ReplicaId(0), [member], &[url]);
    let mut memory = Memory::default();
    Kv::default().genesis(&mut memory);
    Gateway::serve(listener, Unreplicated(Mutex::new((memory, 0))), info, async {
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
