//! Constants from all sites together, before round 1: a real coordinator, real agents over real gRPC on
//! loopback, and files at each site.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tributary_client::agent::Agent;
use tributary_client::config::ClientConfig;
use tributary_client::ledger;
use tributary_client::observer::Log;
use tributary_client::trainer::LocalTrainer;
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::blobs::{Blobs, sums_key};
use tributary_coordinator::config::{Config, KeepUpdates};
use tributary_coordinator::store::Store;
use tributary_coordinator::verification::{self, Verdict};
use tributary_core::digest::Digest;
use tributary_core::name::JobId;
use tributary_core::spec::constants::Constants;
use tributary_core::statistics::{NumericSums, decode_constants};
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;
use v1::participant_service_client::ParticipantServiceClient;

/// How long anything may take before a test fails: far more than on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

struct World {
    config: Config,
    coordinator: Option<Coordinator>,
    agents: JoinSet<()>,
    stop: CancellationToken,
    at: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::embedded(&dir.path().join("coordinator"));
        config.disk_reserve_mb = 0;
        config.keep_updates = KeepUpdates::Always;
        let coordinator = Coordinator::start(&config).await.expect("start");
        let at = format!("http://{}", coordinator.address());
        let (agents, stop) = (JoinSet::new(), CancellationToken::new());
        Self { config, coordinator: Some(coordinator), agents, stop, at, dir }
    }

    fn home(&self, site: &str) -> PathBuf {
        self.dir.path().join(site)
    }

    /// A site with one file and what its own file says of it.
    fn join(&mut self, site: &str, (name, rows): (&str, &str), own: &str) {
        let home = self.home(site);
        std::fs::create_dir_all(&home).expect("a folder");
        std::fs::write(home.join(name), rows).expect("written");
        let text = format!(
            "coordinator = {:?}\nname = {site:?}\nstate_dir = \"state\"\nthreads = 1\n{own}",
            self.at
        );
        let config = ClientConfig::parse(&text, &home).unwrap_or_else(|faults| panic!("{faults}"));
        let trainer = LocalTrainer::open(&config.data, config.compute).expect("sound data");
        let agent = Agent::new(config.agent, Arc::new(trainer), Arc::new(Log));
        let agent = agent.with_policy(config.policy);
        let stop = self.stop.clone();
        self.agents.spawn(async move {
            Box::pin(agent.run(stop)).await.expect("the agent goes on");
        });
    }

    async fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::connect(self.at.clone()).await.expect("connected")
    }

    async fn submit(&self, spec: &str) -> String {
        let request = v1::CreateJobRequest {
            request_id: "one".to_owned(),
            spec: spec.to_owned(),
            validate_only: false,
        };
        let answer = self.jobs().await.create_job(request).await;
        answer.expect("created").into_inner().job.expect("a job").job_id
    }

    async fn until(&self, job: &str, reached: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let deadline = Instant::now() + PATIENCE;
        let mut jobs = self.jobs().await;
        loop {
            let request = v1::GetJobRequest { job: job.to_owned() };
            let now = jobs.get_job(request).await.expect("status").into_inner();
            let now = now.job.expect("a job");
            if reached(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "never came to it: {now:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ended(&self, job: &str) -> v1::Job {
        self.until(job, |job| ["completed", "failed"].contains(&job.status.as_str())).await
    }

    fn constants(&self, job: &v1::Job) -> Constants {
        let path = Path::new(&self.config.blobs).join("constants").join(&job.job_id);
        let bytes = std::fs::read(path).expect("the constants' blob");
        assert_eq!(Digest::of(&bytes).to_string(), job.constants_digest);
        decode_constants(&bytes).expect("constants")
    }

    /// Ends the agents and the coordinator; the folder stays.
    async fn end(&mut self) {
        self.stop.cancel();
        while let Some(agent) = self.agents.join_next().await {
            agent.expect("a clean end");
        }
        self.coordinator.take().expect("running").stop().await.expect("a clean stop");
    }
}

/// A job on three numbers a row, or whatever `data` says, that waits for everybody.
fn spec(clients: u32, data: &str, model: &str) -> String {
    format!(
        "[job]\nname = \"shared\"\nrounds = 2\nseed = 5\n[data]\n{data}\n[model]\n{model}\n\
         [train]\nbatch_size = 4\noptimizer = {{ kind = \"sgd\", learning_rate = 0.05 }}\n\
         [cohort]\nexact_replay = true\nmin_available_clients = {clients}\nmin_train_clients = 2\n\
         min_updates = 2\n[evaluation]\nfinal = false\n"
    )
}

const MEASURED: &str = "kind = \"table\"\nclasses = 2\nclass_names = \"federated\"\n\
                        normalise = \"federated\"\nstatistics = { min_clients = 3 }";
const LINEAR: &str = "input = { shape = [4] }\nlayers = [{ linear = 2 }]";
const TABLE: &str = "[data]\nname = \"rows\"\nformat = \"csv\"\nfile = \"rows.csv\"\n\
                     label_column = \"mood\"\nmissing = \"constant\"\nfill = 99\nfeatures = [\"age\", \
                     { column = \"pain\", categories = [1, 2] }, \"rate\"]\n";

/// Ages of three sites, on different scales.
const AGES: [&[i32]; 3] = [&[50, 61, 47, 38], &[5, 7, 9, 4, 6, 8], &[70, 81, 77]];

fn rows(site: usize) -> String {
    let mut text = "age,pain,rate,mood\n".to_owned();
    for (at, age) in AGES[site].iter().enumerate() {
        let mood = if at % 2 == 0 { "well" } else { "ill" };
        // The last rate of each site is not known; 99 fills its place in training.
        let last = at + 1 == AGES[site].len();
        let rate = if last { "?".to_owned() } else { format!("{}", age * 2) };
        text += &format!("{age},{},{rate},{mood}\n", at % 2 + 1);
    }
    text
}

async fn pool(order: [usize; 3]) -> (World, v1::Job) {
    let mut world = World::start().await;
    let job = world.submit(&spec(3, MEASURED, LINEAR)).await;
    for site in order {
        world.join(&format!("site-{site}"), ("rows.csv", &rows(site)), TABLE);
    }
    let done = world.ended(&job).await;
    assert_eq!(done.status, "completed", "{}", done.reason);
    (world, done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sites_train_by_the_constants_of_all_their_rows_together() {
    let (mut world, done) = pool([0, 1, 2]).await;
    let constants = world.constants(&done);
    let (mut ages, mut rates) = (NumericSums::default(), NumericSums::default());
    for site in AGES {
        site.iter().for_each(|age| ages.add(f64::from(*age)));
        site[..site.len() - 1].iter().for_each(|age| rates.add(f64::from(age * 2)));
    }
    let (means, deviations) = constants.normalise.expect("asked for");
    let mean = |sums: &NumericSums| sums.mean().expect("a mean");
    let deviation = |sums: &NumericSums| sums.deviation().expect("a deviation");
    assert_eq!(means, [mean(&ages), 0.0, 0.0, mean(&rates)]);
    assert_eq!(deviations, [deviation(&ages), 1.0, 1.0, deviation(&rates)]);
    assert_eq!(constants.class_names, Some(vec!["ill".to_owned(), "well".to_owned()]));

    let mut left = Vec::new();
    ledger::verify(&world.home("site-1").join("state"), |entry| {
        left.push((entry.what, entry.round, entry.examples));
    })
    .expect("a ledger");
    assert_eq!(left.remove(0).0, "offer");
    assert_eq!(left[0], ("sums".to_owned(), 0, 6), "{left:?}");
    assert!(left[1..].iter().all(|(what, ..)| what == "update") && left.len() == 3, "{left:?}");

    // The record alone gives the same constants and the same rounds.
    world.end().await;
    let blobs = Blobs::local(Path::new(&world.config.blobs)).expect("blobs");
    let store = Store::open(world.config.database_url.reveal()).await.expect("the store");
    let report = verification::verify(&store, &blobs, &done.job_id).await.expect("verified");
    assert!(report.is_same(), "{report:?}");
    assert_eq!((&report.constants, report.counted()), (&Some(Verdict::Same), 3 + 2 * 3));
    // A single other byte of a site's sums is noticed.
    let job: JobId = done.job_id.parse().expect("an id");
    let row = store.site_sums(&job).await.expect("sums").remove(0);
    let key = sums_key(&job, &row.task, row.digest);
    let path = Path::new(&world.config.blobs).join(key);
    let mut bytes = std::fs::read(&path).expect("sums");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let report = verification::verify(&store, &blobs, &done.job_id).await.expect("verified");
    assert!(matches!(report.constants, Some(Verdict::Differs(_))), "{report:?}");
    store.close().await;

    // Whoever comes first, the bytes are the same.
    let (mut other, again) = pool([2, 0, 1]).await;
    assert_eq!(again.constants_digest, done.constants_digest);
    assert_eq!(again.result_digest, done.result_digest);
    other.end().await;
}

const TEXT: &str = "[data]\nname = \"texts\"\nformat = \"tsv\"\nfile = \"texts.tsv\"\n\
                    text_column = \"text\"\nlabel_column = \"mood\"\n[data.tokens]\nby = \"words\"\n";
const EMBEDDED: &str = "input = { tokens = 4 }\nlayers = [\
                        { embedding = { vocabulary = 12, dimension = 3 } }, \
                        { lstm = { hidden = 3, return = \"last_step\" } }, { linear = 2 }]";

fn texts(words: [&str; 3]) -> String {
    let [a, b, c] = words;
    format!("text\tmood\n{a} {b} {a}\tgood\n{b} {c}\tbad\n{a} {a} {b}\tgood\n")
}

const WORDS: [[&str; 3]; 3] =
    [["alpha", "beta", "gamma"], ["eins", "zwei", "drei"], ["un", "deux", "trois"]];

fn spoken(min_sites: u32) -> String {
    let data = format!(
        "kind = \"text\"\nclasses = 2\nclass_names = [\"bad\", \"good\"]\nvocabulary = 12\n\
         words = {{ federated = true }}\nstatistics = {{ min_clients = 3, min_sites = {min_sites} }}"
    );
    spec(3, &data, EMBEDDED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_sites_without_a_common_word_share_one_vocabulary() {
    let mut world = World::start().await;
    let job = world.submit(&spoken(1)).await;
    for (at, words) in WORDS.into_iter().enumerate() {
        world.join(&format!("site-{at}"), ("texts.tsv", &texts(words)), TEXT);
    }
    let done = world.ended(&job).await;
    assert_eq!(done.status, "completed", "{}", done.reason);
    let tokens = world.constants(&done).tokens.expect("asked for");
    // Four, three and one of each site's three, equally frequent ones by their bytes.
    let expected = ["alpha", "eins", "un", "beta", "deux", "zwei", "drei", "gamma", "trois"];
    assert_eq!(tokens, expected);
    world.end().await;

    // Where a word must come at two sites, such sites have none together, and the job says so.
    let mut world = World::start().await;
    let job = world.submit(&spoken(2)).await;
    for (at, words) in WORDS.into_iter().enumerate() {
        world.join(&format!("site-{at}"), ("texts.tsv", &texts(words)), TEXT);
    }
    let done = world.ended(&job).await;
    assert_eq!(done.status, "failed", "{done:?}");
    for part in ["statistics_failed", "none of 9 different tokens", "min_sites"] {
        assert!(done.reason.contains(part), "{part:?} is missing in: {}", done.reason);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_below_its_floor_refuses_and_the_status_says_so() {
    let mut world = World::start().await;
    let job = world.submit(&spec(3, MEASURED, LINEAR)).await;
    for site in 0..3 {
        let floor = if site == 2 { "[policy]\nstatistics_rows_min = 4\n" } else { "" };
        let own = format!("{TABLE}{floor}");
        world.join(&format!("site-{site}"), ("rows.csv", &rows(site)), &own);
    }
    let ended = world.ended(&job).await;
    assert_eq!(ended.status, "failed", "two of the three that it takes: {ended:?}");
    for part in ["statistics_floor: 2 sites", "min_clients is 3", "statistics_rows_min is 4"] {
        assert!(ended.reason.contains(part), "{part:?} is missing in: {}", ended.reason);
    }
    assert_eq!(ended.refusals.len(), 1, "{:?}", ended.refusals);
    assert_eq!(ended.refusals[0].client, "site-2");
    assert!(ended.refusals[0].reason.contains("statistics_rows_min"), "{:?}", ended.refusals);
    assert_eq!(ended.constants_digest, "");
    let mut left = Vec::new();
    ledger::verify(&world.home("site-2").join("state"), |entry| left.push(entry.what))
        .expect("a ledger");
    assert_eq!(left, ["offer", "reason"], "no sums left the site that refused");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_protocol_before_is_not_asked_and_the_others_are() {
    let mut world = World::start().await;
    let job = world.submit(&spec(4, MEASURED, LINEAR)).await;
    let mut client = ParticipantServiceClient::connect(world.at.clone()).await.expect("connected");
    let mut poll = async |protocol_version: u32| {
        let binding = v1::Binding {
            name: "rows".to_owned(),
            kind: "table".to_owned(),
            train_examples: 10,
            ..v1::Binding::default()
        };
        let request = v1::PollRequest {
            caller: Some(v1::Caller { client: "old".to_owned(), instance_id: "a".to_owned() }),
            protocol_version,
            software: "test".to_owned(),
            bindings: vec![binding],
            wait_ms: 0,
            reconsider: false,
        };
        client.poll(request).await.expect("polled").into_inner()
    };
    assert_eq!(poll(1).await.protocol_version, 1, "it is spoken with as before");
    for site in 0..3 {
        world.join(&format!("site-{site}"), ("rows.csv", &rows(site)), TABLE);
    }
    let waiting = world.until(&job, |job| job.reason.contains("3 present")).await;
    assert_eq!(waiting.phase, "statistics");
    assert!(waiting.reason.contains("min_available_clients is 4"), "{}", waiting.reason);
    assert!(waiting.reason.contains("min_clients is 3"), "{}", waiting.reason);
    assert_eq!(poll(2).await.protocol_version, 2, "it was updated");
    let asked = world.until(&job, |job| job.reason.contains("waiting for old")).await;
    assert_eq!(asked.phase, "statistics");
    let answer = poll(2).await.answer;
    let Some(v1::poll_response::Answer::Task(task)) = answer else { panic!("{answer:?}") };
    assert_eq!((task.kind(), task.round), (v1::TaskKind::Statistics, 0));
    assert!(task.constants.is_empty() && task.constants_digest.is_empty());
    // Sums that no four rows have are refused, and the refusal is kept.
    let request = v1::SubmitStatisticsRequest {
        caller: Some(v1::Caller { client: "old".to_owned(), instance_id: "a".to_owned() }),
        task_id: task.task_id,
        sums: Some(v1::SiteSums {
            rows: 4,
            features: vec![vec![0xff; 48].into(); 4],
            ..v1::SiteSums::default()
        }),
    };
    let refused = client.submit_statistics(request).await.expect_err("hostile");
    assert!(refused.message().contains("sums.features: expected"), "{refused:?}");
    let rejections = v1::ListRejectionsRequest { job: job.clone(), page_size: 0 };
    let kept = world.jobs().await.list_rejections(rejections).await.expect("kept").into_inner();
    assert_eq!(kept.rejections[0].code, "malformed");
    world.end().await;
}
