//! `grpc.health.v1.Health`.

use std::sync::Arc;

use tokio::time::sleep;
use tonic::Status;

use super::Shared;
use crate::cluster::Cluster;
use crate::grpc::{Outcome, Replies, frame};
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

/// Whether the cluster answers, now and whenever that changes.
pub(crate) async fn watch<C: Cluster>(
    shared: Arc<Shared<C>>,
    request: HealthCheckRequest,
    replies: Replies,
) -> Outcome {
    let mut last = None;
    loop {
        let now = if request.service.is_empty() {
            serving(&shared).await
        } else {
            ServingStatus::ServiceUnknown
        };
        if last.replace(now) != Some(now) {
            let mut bytes = Vec::new();
            frame(&response(now), &mut bytes);
            replies.room().await.send(bytes);
        }
        sleep(shared.limits.health_period).await;
    }
}

async fn serving<C: Cluster>(shared: &Shared<C>) -> ServingStatus {
    if shared.is_answering().await { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
