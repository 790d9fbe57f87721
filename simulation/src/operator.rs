//! The operator: submits the jobs, and tells them to pause, to go on, or to end, until somebody answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tributary_client::rpc::Link;
use tributary_proto::v1;
use tributary_proto::v1::job_service_client::JobServiceClient;

use crate::chance::Chance;
use crate::network::{Network, OPERATOR};
use crate::node::Node;
use crate::op::JOBS;
use crate::trainer::FEATURES;

/// How long a call may take before it is made again.
const CALL: Duration = Duration::from_secs(5);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// What the jobs are called.
pub(crate) const NAMES: [&str; JOBS] = ["waits", "timed"];

/// What a job can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Pause,
    Resume,
    Cancel,
}

pub(crate) struct Operator {
    client: JobServiceClient<Link>,
    chance: Arc<Chance>,
    /// Orders that may be under way.
    orders: Vec<AbortHandle>,
    cancelled: BTreeSet<usize>,
}

/// The first job waits for everybody, so its result is the same whatever happens; the second one asks for
/// the sites' sums, and goes on with two of three at its deadline.
fn spec(job: usize) -> String {
    let (data, cohort) = match job {
        0 => (
            "kind = \"image\"\n",
            "min_available_clients = 3\nmin_train_clients = 3\nmin_updates = 3\nlease_s = 5\n\
              exact_replay = true\n",
        ),
        _ => (
            "kind = \"table\"\nnormalise = \"federated\"\nstatistics = { min_clients = 2 }\n",
            "min_available_clients = 3\nmin_train_clients = 2\nmin_updates = 2\nlease_s = 5\n\
              deadline_s = 12\nover_selection = 1.5\nmax_attempts = 5\n",
        ),
    };
    format!(
        "[job]\nname = \"{}\"\nrounds = 3\nseed = {}\n[data]\n{data}classes = 2\n\
         [model]\ninput = {{ shape = [{FEATURES}] }}\nlayers = [{{ linear = 2 }}]\n\
         [train]\nlocal_epochs = 1\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n\
         [cohort]\n{cohort}",
        NAMES[job],
        job + 1,
    )
}

impl Operator {
    pub(crate) fn new(chance: &Arc<Chance>, network: &Arc<Network>) -> Self {
        let link = Link::carried(network.link(OPERATOR, Node::new("operator")));
        Self {
            client: JobServiceClient::new(link),
            chance: chance.clone(),
            orders: Vec::new(),
            cancelled: BTreeSet::new(),
        }
    }

    /// Submits all jobs, each by one key until it is there.
    pub(crate) fn submit(&self) {
        for (job, name) in NAMES.iter().enumerate() {
            let (client, chance) = (self.client.clone(), self.chance.clone());
            let request = v1::CreateJobRequest {
                request_id: (*name).to_owned(),
                spec: spec(job),
                validate_only: false,
            };
            tokio::spawn(async move {
                loop {
                    let mut client = client.clone();
                    let created =
                        tokio::time::timeout(CALL, client.create_job(request.clone())).await;
                    match created {
                        Ok(Ok(_)) => return chance.note(&format!("operator submitted {name}")),
                        Ok(Err(error)) => chance.note(&format!("operator {}", error.message())),
                        Err(_) => chance.note("operator hears nothing"),
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }

    /// Whether a job was ever told to end.
    pub(crate) fn has_cancelled(&self, job: usize) -> bool {
        self.cancelled.contains(&job)
    }

    /// Tells a job something, for as long as it takes.
    pub(crate) fn order(&mut self, order: Order, job: usize) {
        if order == Order::Cancel {
            self.cancelled.insert(job);
        }
        let (client, chance) = (self.client.clone(), self.chance.clone());
        let telling = tokio::spawn(async move {
            loop {
                let told = tokio::time::timeout(CALL, tell(client.clone(), order, job)).await;
                match told {
                    Ok(Ok(())) => return chance.note(&format!("operator did {order:?} {job}")),
                    // A reason is an answer: the job is not there yet, or has ended.
                    Ok(Err(status)) if tributary_proto::fault::reason(&status).is_some() => {
                        return chance.note(&format!("operator {order:?}: {}", status.message()));
                    }
                    Ok(Err(_)) | Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
        self.orders.push(telling.abort_handle());
    }

    /// Gives up what nobody has answered yet.
    pub(crate) fn forget(&mut self) {
        self.orders.drain(..).for_each(|order| order.abort());
    }
}

async fn tell(
    mut client: JobServiceClient<Link>,
    order: Order,
    job: usize,
) -> Result<(), tonic::Status> {
    let job = NAMES[job].to_owned();
    match order {
        Order::Pause => client.pause_job(v1::PauseJobRequest { job }).await.map(drop),
        Order::Resume => client.resume_job(v1::ResumeJobRequest { job }).await.map(drop),
        Order::Cancel => {
            let reason = "the operator's".to_owned();
            client.cancel_job(v1::CancelJobRequest { job, reason }).await.map(drop)
        }
    }
}
