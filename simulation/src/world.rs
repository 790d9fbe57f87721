//! One run's federation: replicas and clients that come and go over one database, one store of blobs and
//! one network, and what operations do to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_client::agent::{Agent, AgentConfig};
use tributary_client::observer::{AgentEvent, Observer};
use tributary_client::rpc::{Egress, Link};
use tributary_coordinator::config::{Config, KeepUpdates};
use tributary_coordinator::simulation::{
    SimulatedBlobs, SimulatedDatabase, SimulatedReplica, Trouble,
};
use tributary_coordinator::store::Store;

use crate::chance::{Chance, Lent};
use crate::network::Network;
use crate::node::{Node, Standing};
use crate::op::{CLIENTS, Op, REPLICAS};
use crate::operator::{Operator, Order};
use crate::rules::Rules;
use crate::storage::{BlobWay, Quiet, StoreLine};
use crate::trainer::StandIn;

/// How long a silent replica keeps its jobs, seconds.
const DRIVER_LEASE_S: u32 = 3;

/// Where folders are in memory: what agents sync need not reach a disk, since no power fails here.
const MEMORY: &str = "/dev/shm";

fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir())
}

/// A place for a replica: what it has over its restarts, and its process.
struct Place {
    fails: Arc<AtomicU64>,
    trouble: Trouble,
    node: Node,
    replica: Option<SimulatedReplica>,
}

/// A site: its state folder, and its agent's process.
struct Site {
    state_dir: PathBuf,
    ails: Arc<AtomicU64>,
    node: Node,
    agent: Option<JoinHandle<()>>,
}

pub(crate) struct World {
    pub(crate) chance: Arc<Chance>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) network: Arc<Network>,
    pub(crate) operator: Operator,
    database: SimulatedDatabase,
    blobs: SimulatedBlobs,
    config: Config,
    /// Whether a trainer was ever unwell: then a job may run out of attempts.
    pub(crate) ailed: bool,
    places: Vec<Place>,
    sites: Vec<Site>,
    _dir: tempfile::TempDir,
}

impl World {
    /// Everybody runs, and the jobs are about to be submitted.
    pub(crate) fn start(seed: u64, lent: &Lent) -> anyhow::Result<Self> {
        let dir = folder()?;
        let chance = Arc::new(Chance::new(seed));
        lent.set(chance.clone());
        let network = Network::new(chance.clone());
        let mut config = Config::embedded(dir.path());
        // So that every round can be computed again at the end.
        config.keep_updates = KeepUpdates::Always;
        config.driver_lease_s = DRIVER_LEASE_S;
        let gone = |name: &str| {
            let node = Node::new(name);
            node.set(Standing::Gone);
            node
        };
        let place = |replica| Place {
            fails: Arc::default(),
            trouble: Trouble::new(seed ^ replica as u64),
            node: gone(&format!("replica-{replica}")),
            replica: None,
        };
        let site = |client| Site {
            state_dir: dir.path().join(format!("site-{client}")),
            ails: Arc::default(),
            node: gone(&format!("site-{client}")),
            agent: None,
        };
        let mut world = Self {
            rules: Arc::default(),
            operator: Operator::new(&chance, &network),
            database: SimulatedDatabase::create(&dir.path().join("history.db"))?,
            blobs: SimulatedBlobs::default(),
            places: (0..REPLICAS).map(place).collect(),
            sites: (0..CLIENTS).map(site).collect(),
            chance,
            network,
            config,
            ailed: false,
            _dir: dir,
        };
        world.all_run();
        world.operator.submit();
        Ok(world)
    }

    /// The history, as somebody reads it whom nothing disturbs.
    pub(crate) fn history(&self) -> (Store, tributary_coordinator::blobs::Blobs) {
        let line = Arc::new(Quiet(self.chance.clone()));
        (Store::simulated(self.database.clone(), line), self.blobs.plain())
    }

    /// Performs one operation; one that does not fit (a start of what runs) does nothing.
    pub(crate) async fn perform(&mut self, op: Op) {
        self.chance.note(&format!("{op:?}"));
        match op {
            Op::Wait { ms } => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            Op::Crash { replica } => self.crash(replica),
            Op::Stop { replica } => self.stop(replica),
            Op::Start { replica } => self.start_replica(replica),
            Op::Freeze { replica } => self.places[replica].node.set(Standing::Frozen),
            Op::Thaw { replica } => self.places[replica].node.set(Standing::Running),
            Op::Kill { client } => self.kill(client).await,
            Op::Launch { client } => self.launch(client),
            Op::Halt { client } => self.sites[client].node.set(Standing::Frozen),
            Op::Go { client } => self.sites[client].node.set(Standing::Running),
            Op::Cut { client, replica } => {
                self.network.weather().cuts.insert((client, replica));
            }
            Op::Heal { client, replica } => {
                self.network.weather().cuts.remove(&(client, replica));
            }
            Op::Ail { client, percent } => {
                self.sites[client].ails.store(percent, Ordering::Relaxed);
                self.ailed |= percent > 0;
            }
            Op::Deafen { client } => {
                self.network.weather().deaf.insert(client);
            }
            Op::Hear { client } => {
                self.network.weather().deaf.remove(&client);
            }
            Op::Lose { percent } => self.network.weather().lose = percent,
            Op::Repeat { percent } => self.network.weather().repeat = percent,
            Op::Slow { ms } => self.network.weather().slow_ms = ms,
            Op::FailStore { replica, percent } => {
                self.places[replica].fails.store(percent, Ordering::Relaxed);
            }
            Op::FailBlobs { replica, percent } => {
                self.places[replica].trouble.set_rate(percent as f64 / 100.0);
            }
            Op::Pause { job } => self.operator.order(Order::Pause, job),
            Op::Resume { job } => self.operator.order(Order::Resume, job),
            Op::Cancel { job } => self.operator.order(Order::Cancel, job),
        }
    }

    /// Nothing goes wrong any more: everybody runs and reaches everybody.
    pub(crate) fn calm(&mut self) {
        self.chance.note("calm");
        *self.network.weather() = crate::network::Weather::default();
        for place in &self.places {
            place.fails.store(0, Ordering::Relaxed);
            place.trouble.set_rate(0.0);
            place.node.set(Standing::Running);
        }
        for site in &self.sites {
            site.ails.store(0, Ordering::Relaxed);
            site.node.set(Standing::Running);
        }
        self.all_run();
    }

    pub(crate) fn all_run(&mut self) {
        (0..REPLICAS).for_each(|replica| self.start_replica(replica));
        (0..CLIENTS).for_each(|client| self.launch(client));
    }

    fn start_replica(&mut self, replica: usize) {
        let place = &mut self.places[replica];
        if !place.node.is_gone() {
            return;
        }
        let name = format!("replica-{replica}");
        let node = Node::new(&name);
        let line = StoreLine {
            node: node.clone(),
            chance: self.chance.clone(),
            rules: self.rules.clone(),
            fails: place.fails.clone(),
        };
        let way = BlobWay { node: node.clone(), chance: self.chance.clone() };
        let store = Store::simulated(self.database.clone(), Arc::new(line));
        let blobs = self.blobs.over(Arc::new(way), &place.trouble);
        let started = SimulatedReplica::start(store, blobs, &self.config, name);
        self.network.serve(replica, Some((node.clone(), started.call())));
        (place.node, place.replica) = (node, Some(started));
    }

    fn crash(&mut self, replica: usize) {
        self.places[replica].node.set(Standing::Gone);
        self.places[replica].replica = None;
    }

    fn stop(&mut self, replica: usize) {
        let place = &mut self.places[replica];
        let Some(running) = place.replica.take().filter(|_| !place.node.is_gone()) else { return };
        let (node, chance, rules) = (place.node.clone(), self.chance.clone(), self.rules.clone());
        tokio::spawn(async move {
            if let Err(error) = running.stop().await {
                rules.fault(&chance, format!("{} did not stop well: {error:#}", node.name));
            }
            node.set(Standing::Gone);
        });
    }

    fn launch(&mut self, client: usize) {
        let site = &mut self.sites[client];
        if !site.node.is_gone() {
            return;
        }
        let name = format!("site-{client}");
        let node = Node::new(&name);
        let config = AgentConfig {
            coordinator: "http://simulated".to_owned(),
            name: name.parse().unwrap_or_else(|_| unreachable!("{name} is a name")),
            state_dir: site.state_dir.clone(),
            egress: Egress::default(),
        };
        let witness =
            Witness { node: node.clone(), chance: self.chance.clone(), rules: self.rules.clone() };
        let trainer = StandIn {
            examples: 10 + client as u64,
            chance: self.chance.clone(),
            ails: site.ails.clone(),
        };
        let link = Link::carried(self.network.link(client, node.clone()));
        let witness = Arc::new(witness);
        let agent = Agent::new(config, Arc::new(trainer), witness.clone()).over(link);
        site.node = node;
        site.agent = Some(tokio::spawn(async move {
            if let Err(error) = agent.run(CancellationToken::new()).await {
                let text = format!("{} gave up: {error}", witness.node.name);
                witness.rules.fault(&witness.chance, text);
            }
        }));
    }

    async fn kill(&mut self, client: usize) {
        let site = &mut self.sites[client];
        site.node.set(Standing::Gone);
        if let Some(agent) = site.agent.take() {
            agent.abort();
            // Its lock on the state folder goes with it.
            let _ = agent.await;
        }
    }
}

/// Hears what an agent says, and holds it to the rules.
struct Witness {
    node: Node,
    chance: Arc<Chance>,
    rules: Arc<Rules>,
}

impl Observer for Witness {
    fn event(&self, event: AgentEvent) {
        if let AgentEvent::Receipt { digest } = &event {
            self.rules.receipt(&self.chance, &self.node.name, digest);
        }
        self.chance.note(&format!("{} {event:?}", self.node.name));
    }
}
