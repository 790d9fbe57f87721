//! What is done on the coordinator's own machine: the certificate authority, the first admin's token,
//! and the offline replay of a job.
#![allow(clippy::print_stdout)]

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use tributary_core::digest::Digest;
use tributary_core::identity::{Role, Token};
use tributary_core::name::{ClientName, FederationName};

use crate::app::open_store;
use crate::authority::{Authority, AuthorityError, Import, init, promote, retire, rotate, secret};
use crate::blobs::Blobs;
use crate::config::{Config, Flags};
use crate::store::By;
use crate::verification::{self, Verdict};

/// Where the configuration comes from.
#[derive(clap::Args)]
pub struct Args {
    /// A TOML file; docs/samples/coordinator.toml has every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the gRPC port, such as 127.0.0.1:7443; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Folder for blobs, the authority and the default database.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Args {
    /// File, variables and flags together.
    ///
    /// # Errors
    /// A sentence that names the file and all faults in it.
    pub fn load(self) -> anyhow::Result<Config> {
        let flags = Flags { config: self.config, listen: self.listen, data_dir: self.data_dir };
        Config::load(&flags, std::env::vars())
    }
}

/// `tributary-coordinator ca …`
#[derive(Subcommand)]
pub enum CaCommand {
    /// Make the authority, once; or take over an existing one.
    Init {
        /// The federation's own name: every certificate says spiffe://FEDERATION/ROLE/NAME.
        #[arg(long, value_name = "NAME", default_value = "federation")]
        federation: FederationName,
        /// An authority's certificate (PEM) to take over, with --import-key.
        #[arg(long, value_name = "FILE", requires = "import_key")]
        import: Option<PathBuf>,
        /// Its key (PKCS#8, PEM).
        #[arg(long, value_name = "FILE", requires = "import")]
        import_key: Option<PathBuf>,
        /// Succeed where there is one already, and leave it as it is.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        args: Args,
    },
    /// First step of a rotation: make the next authority; it is trusted from now on.
    Rotate(Args),
    /// Second step, a certificate's life later: the next authority signs.
    Promote(Args),
    /// Last step, another life later: the previous authority is trusted no longer.
    Retire(Args),
    /// Print who signs and who is trusted.
    Show(Args),
}

/// `tributary-coordinator verify …`
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// A job id, or a spec's name (its newest job).
    job: String,
    #[command(flatten)]
    args: Args,
}

/// Recomputes a job's rounds; prints what came of it.
///
/// # Errors
/// When nothing can be said, or a round differs, or its updates are gone.
pub async fn verify(args: VerifyArgs) -> anyhow::Result<()> {
    let config = args.args.load()?;
    let store = open_store(&config).await?;
    let blobs = Blobs::open(&config).await.context("cannot open the blobs")?;
    let report = verification::verify(&store, &blobs, &args.job).await?;
    store.close().await;
    let of = |wanted: fn(&Verdict) -> bool| report.rounds.iter().filter(|r| wanted(&r.1)).count();
    let differing: Vec<_> = report
        .rounds
        .iter()
        .filter_map(|(number, verdict)| match verdict {
            Verdict::Differs(why) => Some(serde_json::json!({ "round": number, "why": why })),
            _ => None,
        })
        .collect();
    let constants = report.constants.as_ref().map(|verdict| match verdict {
        Verdict::Differs(why) => why.as_str(),
        _ => "same",
    });
    let outcomes: std::collections::BTreeMap<&str, usize> =
        report.outcomes.iter().map(|(outcome, count)| (outcome.word(), *count)).collect();
    let line = serde_json::json!({
        "job": args.job,
        "constants": constants,
        "same": of(|v| *v == Verdict::Same),
        "updates_expired": of(|v| *v == Verdict::UpdatesExpired),
        "differ": differing.len(),
        "differing": differing,
        "receipts_counted": report.counted(),
        "receipts_unused": report.unused(),
        "receipts_open": report.open,
        "receipts_lost": report.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "outcomes": outcomes,
    });
    writeln!(std::io::stdout(), "{line}")?;
    anyhow::ensure!(report.lost.is_empty(), "not every receipt came to an outcome that is true");
    anyhow::ensure!(report.is_same(), "not every round could be recomputed to the same bytes");
    Ok(())
}

/// `tributary-coordinator token …`
#[derive(clap::Args)]
pub struct TokenArgs {
    /// The name in the certificate.
    #[arg(long)]
    name: ClientName,
    /// client, viewer, operator or admin.
    #[arg(long, default_value = "admin")]
    role: Role,
    /// How long it can be used, in seconds.
    #[arg(long, default_value_t = 3600, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(60..=604_800))]
    ttl_s: u32,
    /// Write it to a file of mode 0600 instead of printing it.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Do nothing where somebody of this role and name is enrolled already.
    #[arg(long)]
    unless_enrolled: bool,
    #[command(flatten)]
    args: Args,
}

/// Runs `ca …`.
///
/// # Errors
/// When a step is out of order or a file cannot be written.
pub fn ca(command: CaCommand) -> anyhow::Result<()> {
    let dir = match command {
        CaCommand::Init { federation, import, import_key, keep, args } => {
            let dir = args.load()?.ca_dir;
            let import = match (import, import_key) {
                (Some(certificate), Some(key)) => Some(Import { certificate, key }),
                _ => None,
            };
            match init(&dir, &federation, import.as_ref()) {
                Err(AuthorityError::Exists(_)) if keep => {}
                result => result?,
            }
            dir
        }
        CaCommand::Rotate(args) => step(args, rotate)?,
        CaCommand::Promote(args) => step(args, promote)?,
        CaCommand::Retire(args) => step(args, retire)?,
        CaCommand::Show(args) => args.load()?.ca_dir,
    };
    let authority = Authority::load(&dir)?;
    let authority = authority.ok_or(AuthorityError::Missing(dir.display().to_string()))?;
    println!("federation {}", authority.federation());
    println!("signing    {}", authority.fingerprint());
    for trusted in authority.trusted() {
        println!("trusted    {}", Digest::of(&trusted));
    }
    for external in authority.external() {
        println!("external   {}", Digest::of(external));
    }
    Ok(())
}

fn step(args: Args, go: fn(&Path) -> Result<(), AuthorityError>) -> anyhow::Result<PathBuf> {
    let dir = args.load()?.ca_dir;
    go(&dir)?;
    Ok(dir)
}

/// Runs `token`: straight into the database, because nobody can log in yet. With SQLite the
/// coordinator must be stopped; it holds its file alone.
///
/// # Errors
/// When there is no authority, or the database cannot be had.
pub async fn token(args: TokenArgs) -> anyhow::Result<()> {
    let config = args.args.load()?;
    let authority = Authority::load(&config.ca_dir)?;
    let authority =
        authority.ok_or(AuthorityError::Missing(config.ca_dir.display().to_string()))?;
    let store = open_store(&config).await?;
    let enrolled = store.identities().await?.into_iter();
    let known = |row: &crate::store::IdentityRow| row.role == args.role && row.name == args.name;
    if args.unless_enrolled && enrolled.filter(known).any(|row| row.revoked_at_us.is_none()) {
        store.close().await;
        return Ok(());
    }
    let token = Token::new(args.role, args.name.clone(), authority.fingerprint(), secret()?);
    let by = By { who: "local".to_owned(), address: "local".to_owned() };
    let (hash, ttl) = (Token::hash(token.secret()), Duration::from_secs(args.ttl_s.into()));
    store.create_token(hash, (args.role, &args.name), ttl, &by).await?;
    store.close().await;
    match args.to {
        Some(path) => write_secret(&path, &token.reveal()),
        None => {
            println!("{}", token.reveal().as_str());
            Ok(())
        }
    }
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // An earlier one is worth nothing any more, and could have another mode.
    let _ = std::fs::remove_file(path);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| writeln!(file, "{text}"))
        .with_context(|| format!("cannot write {}", path.display()))
}
