//! An update that comes too late: it is refused by name, and leaves nothing behind at its site.

use std::sync::Arc;

use tributary_client::observer::AgentEvent;
use tributary_client::trainer::{Control, LocalTrainer, Order, Trainer};
use tributary_core::codec::{self, ManifestHasher};
use tributary_core::spec::JobSpec;
use tributary_core::spec::data::DataKind;
use tributary_data::Dataset;
use tributary_learning::Compute;

use crate::FIRST_TWO;
use crate::world::{Fate, World, spec, until};

/// The rows of a site: small pictures, the brighter ones of class 1.
fn trainer(site: usize) -> Arc<LocalTrainer> {
    const ROWS: usize = 24;
    let value = |i: usize| ((i * 7 + site * 13) % 17) as f32 / 17.0 + (i / 16 % 2) as f32;
    let labels = (0..ROWS as u32).map(|row| row % 2).collect();
    let rows = Dataset::from_f32((0..16 * ROWS).map(value).collect(), labels, &[1, 4, 4], 2);
    let rows = rows.expect("rows");
    let (kind, compute) = (DataKind::Image, Compute::cpu(1));
    Arc::new(LocalTrainer::new("rows".to_owned(), kind, Some(rows), None, compute))
}

struct Quiet;

impl Control for Quiet {
    fn progress(&self, _: u64, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// With running statistics of either kind, dropout and momentum: all that training keeps for itself.
fn careful() -> String {
    spec("late", 2, 0, FIRST_TWO)
        .replace("input = { shape = [0] }", "input = { shape = [1, 4, 4] }")
        .replace(
            "layers = [{ linear = 2 }]",
            "layers = [{ conv2d = { out = 2, kernel = 3, padding = 1 } }, \
             { batch_norm = { local = true } }, \"relu\", \
             { conv2d = { out = 2, kernel = 3, padding = 1 } }, \"batch_norm\", \"flatten\", \
             { dropout = 0.25 }, { linear = 2 }]",
        )
        .replace("batch_size = 1", "batch_size = 8")
        .replace("learning_rate = 0.1 }", "learning_rate = 0.1, momentum = 0.9 }")
}

/// The digest of what a process that never trained before makes of a round's checkpoint.
fn anew(spec: &JobSpec, checkpoint: &[u8]) -> String {
    let checkpoint = tributary_core::checkpoint::decode(checkpoint).expect("a checkpoint");
    let client = "c".parse().expect("a name");
    let order = Order { spec, round: 2, client: &client, checkpoint: &checkpoint, data: None };
    let trained = trainer(2).train(&order, &Quiet).expect("trained");
    let mut hasher = ManifestHasher::new();
    codec::write_update(spec.model.schema().digest(), &trained.update, |bytes| {
        hasher.update(bytes);
        Ok::<(), std::convert::Infallible>(())
    })
    .expect("written");
    hasher.finish().digest().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_update_is_refused_by_name_and_leaves_no_trace_in_the_next_one() {
    let world = World::start().await;
    let sites = [("a", 0), ("b", 1), ("c", 2)].map(|(name, i)| world.site(name, trainer(i)));
    let [_, b, c] = &sites;
    for site in [b, c] {
        site.set("UploadUpdate", Some(Fate::Held));
    }
    for name in ["a", "b", "c"] {
        until("all are known", async || world.knows(name).await).await;
    }
    let text = careful();
    let job = world.submit(&text).await;
    until("two finished updates", async || {
        let sends = |event: &AgentEvent| matches!(event, AgentEvent::Sending { .. });
        b.heard(sends) == 1 && c.heard(sends) == 1
    })
    .await;
    // The round closes without c, and the next one waits for it: b asks for nothing more.
    b.set("Poll", Some(Fate::Held));
    b.set("UploadUpdate", None);
    until("the second round", async || world.round(&job, 2).await.is_some()).await;
    c.set("UploadUpdate", None);
    world.completed(&job).await;

    assert_eq!(world.sites(&job, 1, "accepted").await, ["a", "b"]);
    assert_eq!(world.sites(&job, 2, "accepted").await, ["a", "c"]);
    assert_eq!(world.refused(&job, "c").await, ["round_closed"]);
    let late = |event: &AgentEvent| matches!(event, AgentEvent::Dropped { reason } if reason.starts_with("round_closed: "));
    assert_eq!((c.heard(late), c.receipts()), (1, 1));
    let task = world.tasks(&job, 1, "c").await.remove(0);
    assert_eq!((task.state.as_str(), task.outcome.as_str()), ("abandoned", ""), "no receipt");
    let spooled = world.folder().join("c/tasks");
    until("nothing is left of it", async || {
        std::fs::read_dir(&spooled).expect("a spool").count() == 0
    })
    .await;
    // Only the committed checkpoint is the base of what c sent next.
    let spec = JobSpec::parse(&text).expect("a spec");
    let next = world.tasks(&job, 2, "c").await.remove(0);
    assert_eq!(next.update_digest, anew(&spec, &world.checkpoint(&job, 1).await));
    for site in sites {
        site.leave().await;
    }
    world.end().await;
}
