//! `etcdserverpb.Watch`: one stream, many watches.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use testudo_kv::watch::{Budget, Notice, Turn};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Counted, Shared};
use crate::cluster::Cluster;
use crate::etcd_error;
use crate::grpc::{BATCH, Outcome, Replies, Requests};
use crate::hub::Stream;
use crate::proto::etcdserverpb::WatchRequest;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::translate;

/// Serves a stream of watches. It reads a request and says a thing in turns, so that neither a
/// client that asks without end nor one that is told much without end keeps the other from happening.
/// A client that has said that it asks for nothing more is told on, as by etcd.
pub(crate) async fn watch<C: Cluster>(
    shared: Arc<Shared<C>>,
    mut requests: Requests,
    replies: Replies,
) -> Outcome {
    let stream = shared.hub.open().await?;
    let period = shared.limits.progress_period;
    let mut progress = interval_at(Instant::now() + period, period);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asks = true;
    let mut idle = false;
    let mut answers = Vec::new();
    let mut room = None;
    loop {
        tokio::select! {
            biased;
            request = requests.next(), if asks && stream.has_room() => match request? {
                Some(request) => {
                    if answers.is_empty() {
                        // It may have to wait, and others need the room.
                        room = None;
                    }
                    obey(&stream, &request).await?;
                }
                None => asks = false,
            },
            () = ready(()), if !idle => {}
            () = stream.woken() => {}
            _ = progress.tick() => stream.tick(),
        }
        // What is said is decided as late as possible.
        let place = match room.take() {
            Some(place) => place,
            None => {
                let _blocked = Counted::new(&shared.counters.blocked);
                replies.room().await
            }
        };
        let turn = stream.poll(Budget::default());
        if let Turn::Notice(notice) = &turn {
            say(&shared, notice, &mut answers)?;
        }
        idle = turn == Turn::Nothing;
        if answers.len() >= BATCH || (idle && !answers.is_empty()) {
            place.send(std::mem::take(&mut answers));
        } else if !idle {
            room = Some(place);
        }
        if turn == Turn::Again {
            yield_now().await;
        }
    }
}

/// Requests of no kind are passed over, as by etcd.
async fn obey(stream: &Stream<'_>, request: &WatchRequest) -> Outcome {
    match &request.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            stream.create(translate::watch_request(create)).await?;
        }
        Some(RequestUnion::CancelRequest(cancel)) => stream.cancel(cancel.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(),
        None => {}
    }
    Ok(())
}

fn say<C: Cluster>(shared: &Shared<C>, notice: &Notice, answers: &mut Vec<u8>) -> Outcome {
    if let Notice::Events { events, .. } = notice {
        let count = events.len() as u64;
        shared.counters.events.fetch_add(count, Ordering::Relaxed);
    }
    translate::watch_message(notice, |revision| shared.header(revision), answers)
        .map_err(|_| etcd_error::unreadable_result())
}
