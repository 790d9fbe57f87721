//! The rounds' service: the history, attempt by attempt.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};
use tributary_proto::convert::all_metrics_to_wire;
use tributary_proto::fault::status;
use tributary_proto::v1;
use tributary_proto::v1::round_service_server::RoundService;

use super::job::{find, page_size};
use super::status::of_store;
use super::wire::round_to_wire;
use crate::driver::Hub;

pub(super) struct Rounds {
    pub(super) hub: Arc<Hub>,
}

#[tonic::async_trait]
impl RoundService for Rounds {
    async fn get_round(
        &self,
        request: Request<v1::GetRoundRequest>,
    ) -> Result<Response<v1::GetRoundResponse>, Status> {
        let request = request.into_inner();
        let job = find(&self.hub, &request.job).await?.id;
        let store = &self.hub.store;
        let mut rows = store.round(&job, request.number).await.map_err(|e| of_store(&e))?;
        let tasks = store.tasks(&job, request.number).await.map_err(|e| of_store(&e))?;
        let Some(last) = rows.pop() else {
            let text = format!("job {job} has no round {}", request.number);
            return Err(status(Code::NotFound, "unknown_round", text));
        };
        let missed = rows.iter().map(|row| round_to_wire(job.as_str(), row, &[])).collect();
        let mut round = round_to_wire(job.as_str(), &last, &tasks);
        let facts = last.state.facts.as_ref();
        round.train_metrics = facts.and_then(|facts| all_metrics_to_wire(&facts.statistics));
        let round = Some(round);
        Ok(Response::new(v1::GetRoundResponse { round, missed }))
    }

    async fn list_rounds(
        &self,
        request: Request<v1::ListRoundsRequest>,
    ) -> Result<Response<v1::ListRoundsResponse>, Status> {
        let request = request.into_inner();
        let job = find(&self.hub, &request.job).await?.id;
        let limit = page_size(request.page_size);
        let after = (request.after_number > 0).then_some(request.after_number);
        let rows = self.hub.store.rounds(&job, after, limit).await.map_err(|e| of_store(&e))?;
        let full = rows.len() >= limit as usize;
        let next_after_number = rows.last().filter(|_| full).map_or(0, |last| last.state.number);
        let rounds = rows.iter().map(|row| round_to_wire(job.as_str(), row, &[])).collect();
        Ok(Response::new(v1::ListRoundsResponse { rounds, next_after_number }))
    }
}
