//! `grpc.health.v1.Health`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::Status;

use super::Shared;
use crate::cluster::Cluster;
use crate::etcd_error;
use crate::grpc;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// Whether the cluster answers now.
pub(crate) async fn check<C: Cluster>(
    shared: &Shared<C>,
    request: &HealthCheckRequest,
) -> Result<HealthCheckResponse, Status> {
    if !request.service.is_empty() {
        return Err(Status::not_found("unknown service"));
    }
    Ok(response(serving(shared).await))
}

/// Whether the cluster answers, now and whenever that changes, until the client or the gateway
/// ends it.
pub(crate) fn watch<C: Cluster>(
    shared: Arc<Shared<C>>,
    request: HealthCheckRequest,
) -> mpsc::Receiver<Result<Bytes, Status>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut stopping = shared.stopping.clone();
        let mut last = None;
        while !*stopping.borrow() {
            let now = if request.service.is_empty() {
                serving(&shared).await
            } else {
                ServingStatus::ServiceUnknown
            };
            if last.replace(now) != Some(now)
                && sender.send(Ok(grpc::item(&response(now)))).await.is_err()
            {
                return;
            }
            tokio::select! {
                () = sleep(shared.limits.health_period) => {}
                () = sender.closed() => return,
                _ = stopping.changed() => {}
            }
        }
        // The client may have gone, and then there is nobody to tell.
        let _gone = sender.send(Err(etcd_error::stopped())).await;
    });
    receiver
}

async fn serving<C: Cluster>(shared: &Shared<C>) -> ServingStatus {
    if shared.is_answering().await { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
