//! The command line, as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use tributary_client::rpc::Proxy;
use tributary_learning::Device;

mod federations;

pub(crate) use federations::{Data, DemoArgs, PaperArgs, Prepare};

/// Run and look after federations.
///
/// `tributary demo` runs a whole one on this machine: a coordinator, four clients over gRPC, real
/// handwritten digits. For your own: start `tributary-coordinator serve`, run `tributary-client run`
/// where the data is, then `tributary submit job.toml` and `tributary watch JOB`.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where the coordinator listens.
    #[arg(
        long,
        global = true,
        env = "TRIBUTARY_COORDINATOR",
        default_value = "http://127.0.0.1:7443",
        value_name = "URL"
    )]
    pub(crate) coordinator: String,
    /// The folder of your identity, for coordinators at https://; ~/.config/tributary unless given.
    #[arg(long, global = true, env = "TRIBUTARY_IDENTITY", value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
    /// An HTTP proxy on the way, `http://[USER:PASSWORD@]HOST:PORT`; HTTPS_PROXY's (but for NO_PROXY)
    /// unless given.
    #[arg(
        long,
        global = true,
        env = "TRIBUTARY_PROXY",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) proxy: Option<Proxy>,
    /// Tables for people, or JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a whole federation on this machine and watch it learn.
    Demo(DemoArgs),
    /// Submit a job from its spec.
    Submit(SubmitArgs),
    /// List jobs, or show one: where it stands and what it waits for.
    Status {
        /// A job id, or a spec's name (its newest job).
        job: Option<String>,
    },
    /// Follow a job until it ends.
    Watch {
        /// A job id, or a spec's name (its newest job).
        job: String,
    },
    /// List a job's rounds.
    Rounds {
        /// A job id, or a spec's name (its newest job).
        job: String,
    },
    /// Show one round: phases, digests, every client's task.
    Round {
        /// A job id, or a spec's name (its newest job).
        job: String,
        /// The round's number, 1 for the first.
        number: u32,
    },
    /// List the clients: who is there, with what data.
    Clients,
    /// Trade a one-time token for your own certificate; the coordinator is --coordinator https://…
    Enroll(EnrollArgs),
    /// Let others in: one-time tokens.
    #[command(subcommand)]
    Token(Token),
    /// Cut a client off.
    #[command(subcommand)]
    Client(ClientCommand),
    /// List everybody who was ever let in, or cut one of them off.
    Identities {
        /// ROLE/NAME of somebody to cut off, such as operator/ada.
        #[arg(long, value_name = "ROLE/NAME")]
        revoke: Option<String>,
        /// Why, for the audit.
        #[arg(long, default_value = "", requires = "revoke")]
        reason: String,
    },
    /// Administrative acts and security events, in one hash chain.
    Audit {
        #[command(subcommand)]
        what: Option<Audit>,
    },
    /// List a job's history and what was refused.
    Events {
        /// A job id, or a spec's name (its newest job).
        job: String,
    },
    /// Fetch models.
    #[command(subcommand)]
    Model(Model),
    /// End a job; its last checkpoint stands.
    Cancel {
        /// A job id, or a spec's name (its newest job).
        job: String,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Hold a job: nothing is offered and no deadline passes.
    Pause {
        /// A job id, or a spec's name (its newest job).
        job: String,
    },
    /// Let a held job go on.
    Resume {
        /// A job id, or a spec's name (its newest job).
        job: String,
    },
    /// Turn archives into files that a client's `[data]` can name.
    #[command(subcommand)]
    Data(Data),
    /// Measure; each bench prints one JSON object on its last line.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(clap::Args)]
pub(crate) struct EnrollArgs {
    /// The token that an admin gave you.
    #[arg(
        long,
        env = "TRIBUTARY_TOKEN",
        hide_env_values = true,
        required_unless_present = "token_file"
    )]
    pub(crate) token: Option<tributary_core::identity::Token>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Print a one-time token: the right to one certificate of this name and role.
    Create {
        /// The name in the certificate.
        #[arg(long)]
        name: String,
        /// client, viewer, operator or admin.
        #[arg(long, default_value = "client")]
        role: String,
        /// How long it can be used, such as 90s, 30m, 1h, 2d.
        #[arg(long, default_value = "1h", value_parser = crate::jobs::members::ttl)]
        ttl: u32,
    },
}

#[derive(Subcommand)]
pub(crate) enum ClientCommand {
    /// Its certificates open nothing any more, and its open tasks go to others.
    Revoke {
        /// Its name.
        name: String,
        /// Why, for the audit.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Lines of the audit that are listed unless said otherwise.
const AUDIT_LAST: usize = 50;

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// The newest lines, or all; `tributary audit` alone does the same.
    List {
        /// So many of the newest; all with 0.
        #[arg(long, default_value_t = AUDIT_LAST)]
        last: usize,
    },
    /// All lines as JSON, one a line: keep a copy where the coordinator's owner cannot write.
    Export,
    /// Recompute the chain here, and check an earlier export against it.
    Verify {
        /// An earlier export: the chain of today must begin with it.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
}

impl Default for Audit {
    fn default() -> Self {
        Audit::List { last: AUDIT_LAST }
    }
}

#[derive(clap::Args)]
pub(crate) struct SubmitArgs {
    /// The spec.
    #[arg(value_name = "JOB.TOML")]
    pub(crate) spec: PathBuf,
    /// Only check the spec.
    #[arg(long)]
    pub(crate) check: bool,
    /// What the job starts from, instead of its seed's draw: a safetensors file (of `model pull`, say),
    /// or a folder as Hugging Face's save_pretrained makes it. It is brought to the coordinator.
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) init: Option<PathBuf>,
    /// Your own key for this submission: the same key never makes a second job.
    #[arg(long, value_name = "KEY")]
    pub(crate) request_id: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Model {
    /// Fetch a checkpoint as a safetensors file.
    Pull(PullArgs),
}

#[derive(clap::Args)]
pub(crate) struct PullArgs {
    /// A job id, or a spec's name (its newest job).
    pub(crate) job: String,
    /// The round that made it (0 for the first checkpoint); the last one unless given.
    #[arg(long, value_name = "N")]
    pub(crate) round: Option<u32>,
    /// Where to write it; JOB-ROUND.safetensors unless given.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Rounds with no training: coordinator and clients as processes, real gRPC, real database.
    Rounds(RoundsArgs),
    /// Folding stored updates against a plain add of the same bytes.
    Aggregate(AggregateArgs),
    /// Training alone: examples a second of a preset on this machine.
    Train(TrainArgs),
    /// Kill coordinators, replicas, clients and the database at random moments, and compare every
    /// round's bytes with an undisturbed run's.
    Chaos(ChaosArgs),
    /// A paper's headline, with its clients as real participants on loopback.
    Paper(PaperArgs),
    /// A coordinator for a bench, in its own process.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        database: Option<String>,
    },
    /// A client that trains nothing, in its own process.
    #[command(hide = true)]
    Echo {
        #[arg(long)]
        at: String,
        #[arg(long)]
        name: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        features: u32,
    },
}

#[derive(clap::Args)]
pub(crate) struct TrainArgs {
    /// A preset: mnist_2nn, mnist_cnn, cifar_cnn, stacked_lstm, char_lstm, text_transformer, distilbert.
    #[arg(long, value_name = "M")]
    pub(crate) model: String,
    /// Threads that may work.
    #[arg(long, default_value_t = 1, value_name = "T")]
    pub(crate) threads: usize,
    /// Examples in a step.
    #[arg(long, default_value_t = 64, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: u32,
    /// cpu, candle (candle's tensors on the CPU), cuda:N or metal:N, where this build has it.
    #[arg(long, default_value_t = Device::Cpu, value_name = "D")]
    pub(crate) device: Device,
    /// Seconds of each of the three windows that are measured.
    #[arg(long, default_value_t = 3.0, value_name = "S")]
    pub(crate) seconds: f64,
}

#[derive(clap::Args)]
pub(crate) struct RoundsArgs {
    /// How many clients, all of which take part in every round.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) clients: u32,
    /// Parameters of the model (a multiple of ten).
    #[arg(long, default_value_t = 1000, value_name = "P")]
    pub(crate) params: u32,
    /// Rounds that are measured, after one to warm up.
    #[arg(long, default_value_t = 50, value_name = "R")]
    pub(crate) rounds: u32,
    /// postgres://USER@HOST/DATABASE instead of SQLite.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct AggregateArgs {
    /// The rule.
    #[arg(long, default_value = "fedavg")]
    pub(crate) rule: String,
    /// How many updates are folded.
    #[arg(long, default_value_t = 50, value_name = "K")]
    pub(crate) updates: u32,
    /// Parameters of the model.
    #[arg(long, default_value_t = 10_000_000, value_name = "P")]
    pub(crate) params: u64,
    /// Where the updates are stored while it runs; a temporary folder unless given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct ChaosArgs {
    /// Kills that must land while a job is unfinished.
    #[arg(long, default_value_t = 20, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) kills: u32,
    /// Draws the moments and the places.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
    /// postgres (its programs must be installed), or sqlite: one process, no database to kill.
    #[arg(long, default_value = "postgres", value_name = "ENGINE")]
    pub(crate) database: String,
    /// Coordinators over one Postgres.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) replicas: u32,
}
