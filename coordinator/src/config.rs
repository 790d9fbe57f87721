//! The coordinator's configuration: one TOML file, `TRIBUTARY__KEY` variables over it, and flags
//! over both. Unknown keys are faults; without any of them the embedded default runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use tributary_core::document::{Section, read_table};
use tributary_core::fault::Faults;

mod s3;
mod secret;

pub use s3::{S3Config, bucket};
pub use secret::Secret;

/// Where the coordinator listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7443";
/// Where it keeps what it must not lose, unless told otherwise.
pub const DATA_DIR_DEFAULT: &str = "tributary-data";
/// Prefix of the variables that override the file.
pub const ENV_PREFIX: &str = "TRIBUTARY__";
/// Longest configuration file.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// How long a certificate is good, unless set: renewed at two thirds, it survives a long weekend.
pub const CERTIFICATE_TTL_S_DEFAULT: u32 = 7 * 86_400;
/// How long it may be set to be: seconds for a drill, three months at most.
const CERTIFICATE_TTL_S: std::ops::RangeInclusive<u32> = 10..=90 * 86_400;
/// Free space that is kept, unless set: some checkpoints of a large model, and a database's growth.
const DISK_RESERVE_MB_DEFAULT: u32 = 512;
/// How long a silent replica keeps its jobs, unless set: longer than a busy disk or a short partition.
const DRIVER_LEASE_S_DEFAULT: u32 = 10;
/// How long it may be set to be.
const DRIVER_LEASE_S: std::ops::RangeInclusive<u32> = 1..=600;
/// Most names of the port.
const SERVER_NAMES_MAX: usize = 32;

/// What the port takes from everybody together, and from each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all: each costs some 100 kB with its windows empty.
    pub connections_max: u32,
    /// Connections of one identity: an agent has one, and another while it renews.
    pub connections_per_identity_max: u32,
    /// Connections without a certificate, in all: only an enrolment needs one, for a second.
    pub unknown_connections_max: u32,
    /// Of these, from one address (IPv6: one network of 64 bits): some machines of a site enroll at
    /// once.
    pub unknown_connections_per_address_max: u32,
    /// Handshakes that go on at once: each is a millisecond of work.
    pub handshakes_max: u32,
    /// Of these, from one address: a whole site may stand behind one.
    pub handshakes_per_address_max: u32,
    /// How long a handshake may take.
    pub handshake_timeout_s: u32,
    /// Requests of one identity: a round without training asks some hundred a second.
    pub requests_per_s: u32,
    /// Requests of one address without a certificate.
    pub unknown_requests_per_s: u32,
    /// Requests of everybody together.
    pub all_requests_per_s: u32,
    /// Calls of one identity that are open at once: an agent has three.
    pub calls_per_identity_max: u32,
    /// Calls that are open at once, in all: every client has a poll.
    pub calls_max: u32,
    /// Uploads that receive at once: with 8 MiB parts, 3 each, 192 MiB of buffers for 8.
    pub uploads_max: u32,
    /// How long one part of an upload may take: 28 kB/s is the slowest line that is waited for.
    pub upload_part_s: u32,
    /// The slowest line that is waited for while others wait for its place.
    pub upload_least_kb_per_s: u32,
    /// How long an upload waits for its place before it is told to come again.
    pub upload_wait_s: u32,
    /// MiB of updates that are not folded yet which one identity may have on the disk.
    pub open_bytes_per_identity_mb: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_identity_max: 16,
            unknown_connections_max: 64,
            unknown_connections_per_address_max: 8,
            handshakes_max: 256,
            handshakes_per_address_max: 64,
            handshake_timeout_s: 5,
            requests_per_s: 500,
            unknown_requests_per_s: 20,
            all_requests_per_s: 20_000,
            calls_per_identity_max: 256,
            calls_max: 65_536,
            uploads_max: 8,
            upload_part_s: 300,
            upload_least_kb_per_s: 256,
            upload_wait_s: 120,
            open_bytes_per_identity_mb: 32 << 10,
        }
    }
}

impl Limits {
    fn read(section: &mut Section) -> Self {
        let mut limits = Self::default();
        for (key, limit) in [
            ("connections_max", &mut limits.connections_max),
            ("connections_per_identity_max", &mut limits.connections_per_identity_max),
            ("unknown_connections_max", &mut limits.unknown_connections_max),
            (
                "unknown_connections_per_address_max",
                &mut limits.unknown_connections_per_address_max,
            ),
            ("handshakes_max", &mut limits.handshakes_max),
            ("handshakes_per_address_max", &mut limits.handshakes_per_address_max),
            ("handshake_timeout_s", &mut limits.handshake_timeout_s),
            ("requests_per_s", &mut limits.requests_per_s),
            ("unknown_requests_per_s", &mut limits.unknown_requests_per_s),
            ("all_requests_per_s", &mut limits.all_requests_per_s),
            ("calls_per_identity_max", &mut limits.calls_per_identity_max),
            ("calls_max", &mut limits.calls_max),
            ("uploads_max", &mut limits.uploads_max),
            ("upload_part_s", &mut limits.upload_part_s),
            ("upload_least_kb_per_s", &mut limits.upload_least_kb_per_s),
            ("upload_wait_s", &mut limits.upload_wait_s),
            ("open_bytes_per_identity_mb", &mut limits.open_bytes_per_identity_mb),
        ] {
            *limit = section.count(key, 1..=1_000_000, Some(*limit));
        }
        limits
    }
}

/// How long accepted updates are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepUpdates {
    /// Until their round is committed.
    UntilCommit,
    /// For ever, so that any round can be recomputed.
    Always,
}

/// Everything that an operator can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address of the gRPC port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Checkpoints and updates lie here, and the SQLite file where no other database is named.
    pub data_dir: PathBuf,
    /// `sqlite://PATH` or `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE`.
    pub database_url: Secret,
    /// The certificate authority's folder. With one the port speaks TLS and asks for certificates;
    /// without one it listens on loopback alone.
    pub ca_dir: PathBuf,
    /// DNS names and addresses that the port's certificate answers to.
    pub server_names: Vec<String>,
    /// How long a certificate is good.
    pub certificate_ttl_s: u32,
    /// MiB that stay free on the disk of the data folder: below it nothing new is taken.
    pub disk_reserve_mb: u32,
    /// What the port takes.
    pub limits: Limits,
    /// How long accepted updates are kept.
    pub keep_updates: KeepUpdates,
    /// Where checkpoints and updates lie: a folder, or `s3://BUCKET/PREFIX`. Replicas share it.
    pub blobs: String,
    /// How the bucket is reached, where it is one.
    pub s3: S3Config,
    /// How long a replica may be silent before another drives its jobs.
    pub driver_lease_s: u32,
}

/// What the command line sets.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

impl Config {
    /// File, variables and flags together.
    ///
    /// # Errors
    /// A sentence that names the file and all faults in it.
    pub fn load(
        flags: &Flags,
        variables: impl Iterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let mut table = match &flags.config {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        for (name, text) in variables {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                match key.to_lowercase().split_once("__") {
                    Some((section, key)) => {
                        let section = table.entry(section).or_insert(Value::Table(Table::new()));
                        if let Some(section) = section.as_table_mut() {
                            set(section, key, text);
                        }
                    }
                    None => set(&mut table, &key.to_lowercase(), text),
                }
            }
        }
        if let Some(listen) = &flags.listen {
            table.insert("listen".to_owned(), Value::String(listen.clone()));
        }
        if let Some(dir) = &flags.data_dir {
            table.insert("data_dir".to_owned(), Value::String(dir.display().to_string()));
        }
        let source = flags
            .config
            .as_ref()
            .map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
        Self::read(table).map_err(|faults| anyhow::anyhow!("{source}: {faults}"))
    }

    /// The embedded default over a data folder, listening on a free loopback port.
    #[must_use]
    pub fn embedded(data_dir: &Path) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data_dir.to_owned(),
            database_url: sqlite_url(data_dir).into(),
            ca_dir: data_dir.join("ca"),
            server_names: Vec::new(),
            certificate_ttl_s: CERTIFICATE_TTL_S_DEFAULT,
            disk_reserve_mb: DISK_RESERVE_MB_DEFAULT,
            limits: Limits::default(),
            keep_updates: KeepUpdates::UntilCommit,
            blobs: data_dir.join("blobs").display().to_string(),
            s3: S3Config::default(),
            driver_lease_s: DRIVER_LEASE_S_DEFAULT,
        }
    }

    fn read(table: Table) -> Result<Self, Faults> {
        read_table(table, |root| {
            let listen_text = root.text("listen", Some(LISTEN_DEFAULT));
            let listen = listen_text.parse();
            if listen.is_err() {
                root.fault("listen", "an address such as 127.0.0.1:7443", listen_text);
            }
            let data_dir = PathBuf::from(root.text("data_dir", Some(DATA_DIR_DEFAULT)));
            let database_url = read_database_url(root, &data_dir);
            let ca_dir = root.optional_text("ca_dir").map_or(data_dir.join("ca"), PathBuf::from);
            let server_names = read_names(root);
            let ttl = Some(CERTIFICATE_TTL_S_DEFAULT);
            let certificate_ttl_s = root.count("certificate_ttl_s", CERTIFICATE_TTL_S, ttl);
            let reserve = Some(DISK_RESERVE_MB_DEFAULT);
            let disk_reserve_mb = root.count("disk_reserve_mb", 0..=u32::MAX, reserve);
            let blobs = data_dir.join("blobs").display().to_string();
            let blobs = root.text("blobs", Some(&blobs));
            s3::check_blobs(root, &blobs);
            let s3 = S3Config::read(root);
            let lease = Some(DRIVER_LEASE_S_DEFAULT);
            let driver_lease_s = root.count("driver_lease_s", DRIVER_LEASE_S, lease);
            let mut section = root.section("limits");
            let limits = Limits::read(&mut section);
            section.finish();
            let words =
                [("until_commit", KeepUpdates::UntilCommit), ("always", KeepUpdates::Always)];
            let keep = root.choice("keep_updates", &words, Some(KeepUpdates::UntilCommit));
            let listen = listen.unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
            Self {
                listen,
                data_dir,
                database_url,
                ca_dir,
                server_names,
                certificate_ttl_s,
                disk_reserve_mb,
                limits,
                keep_updates: keep.unwrap_or(KeepUpdates::UntilCommit),
                blobs,
                s3,
                driver_lease_s,
            }
        })
    }

    /// The configuration for people, without the database's password.
    #[must_use]
    pub fn redacted(&self) -> String {
        format!(
            "listen = {:?}, data_dir = {:?}, database_url = {:?}, ca_dir = {:?}, \
             server_names = {:?}, certificate_ttl_s = {}, disk_reserve_mb = {}, \
             keep_updates = {:?}, blobs = {:?}, s3 = {:?}, driver_lease_s = {}, limits = {:?}",
            self.listen.to_string(),
            self.data_dir.display().to_string(),
            redact(self.database_url.reveal()),
            self.ca_dir.display().to_string(),
            self.server_names,
            self.certificate_ttl_s,
            self.disk_reserve_mb,
            match self.keep_updates {
                KeepUpdates::UntilCommit => "until_commit",
                KeepUpdates::Always => "always",
            },
            self.blobs,
            self.s3,
            self.driver_lease_s,
            self.limits,
        )
    }
}

/// A list, or one text with commas, which is what a variable can hold.
fn read_names(root: &mut Section) -> Vec<String> {
    let expected = "DNS names or addresses, such as [\"fl.example.org\"]";
    let names: Vec<String> = match root.take("server_names") {
        None => Vec::new(),
        Some(Value::String(text)) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        Some(Value::Array(list)) => {
            list.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()
        }
        Some(other) => vec![format!("\0{}", other.type_str())],
    };
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*' | ':');
    for name in &names {
        if name.is_empty() || name.len() > 253 || !name.chars().all(ok) {
            root.fault("server_names", expected, format!("{:?}", name.trim_start_matches('\0')));
        }
    }
    if names.len() > SERVER_NAMES_MAX {
        root.fault("server_names", format!("at most {SERVER_NAMES_MAX}"), names.len().to_string());
    }
    names
}

fn read_database_url(root: &mut Section, data_dir: &Path) -> Secret {
    let url = root.text("database_url", Some(&sqlite_url(data_dir)));
    let known = ["sqlite://", "postgres://", "postgresql://"];
    if !known.iter().any(|scheme| url.starts_with(scheme)) {
        root.fault("database_url", "sqlite://PATH or postgres://USER@HOST/DATABASE", redact(&url));
    }
    url.into()
}

fn sqlite_url(data_dir: &Path) -> String {
    format!("sqlite://{}", data_dir.join("tributary.sqlite").display())
}

fn read_file(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
    if text.len() > CONFIG_BYTES_MAX {
        anyhow::bail!("{}: expected at most {CONFIG_BYTES_MAX} bytes", path.display());
    }
    text.parse().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// A variable's text: `true`, `false` and integers are what they look like, all else is text.
fn set(table: &mut Table, key: &str, text: String) {
    let value = match (text.parse::<bool>(), text.parse::<i64>()) {
        (Ok(flag), _) => Value::Boolean(flag),
        (_, Ok(number)) => Value::Integer(number),
        _ => Value::String(text),
    };
    table.insert(key.to_owned(), value);
}

/// A URL without its password.
#[must_use]
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    let hidden = if user.contains(':') { ":***" } else { "" };
    format!("{scheme}://{name}{hidden}@{host}")
}

#[cfg(test)]
mod tests {
    use super::{Config, Flags, redact};

    fn load(vars: &[(&str, &str)]) -> anyhow::Result<Config> {
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(&Flags::default(), vars)
    }

    #[test]
    fn nothing_gives_the_embedded_default() {
        let config = load(&[]).expect("default");
        assert_eq!(config.listen.to_string(), "127.0.0.1:7443");
        assert_eq!(config.database_url.reveal(), "sqlite://tributary-data/tributary.sqlite");
    }

    #[test]
    fn every_fault_is_named_and_passwords_are_not() {
        let error = load(&[
            ("TRIBUTARY__LIMITS__CONNECTIONS_MAX", "0"),
            ("TRIBUTARY__DATABASE_URL", "mysql://me:secret@db/x"),
            ("TRIBUTARY__LISTN", "x"),
        ])
        .expect_err("faults")
        .to_string();
        for part in ["3 faults", "limits.connections_max", "database_url", "did you mean `listen`?"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(redact("postgres://me:secret@db/x"), "postgres://me:***@db/x");
        let config = load(&[("TRIBUTARY__DATABASE_URL", "postgres://me:canary@db/x")]);
        let config = config.expect("a database");
        assert_eq!(config.database_url.reveal(), "postgres://me:canary@db/x");
        for said in [format!("{config:?}"), format!("{config:#?}"), config.redacted()] {
            assert!(!said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn a_bucket_is_read_and_what_is_none_is_named() {
        let config = load(&[
            ("TRIBUTARY__BLOBS", "s3://models/fl"),
            ("TRIBUTARY__S3__ENDPOINT", "http://127.0.0.1:9000"),
            ("TRIBUTARY__S3__PATH_STYLE", "true"),
        ]);
        let config = config.expect("a bucket");
        assert_eq!(config.blobs, "s3://models/fl");
        assert!(config.s3.path_style && config.s3.is_plain() && config.s3.region == "us-east-1");
        assert!(config.redacted().contains("s3://models/fl"), "{}", config.redacted());
        let error = load(&[
            ("TRIBUTARY__BLOBS", "gs://models"),
            ("TRIBUTARY__S3__ENDPOINT", "http://me:secret@minio:9000"),
            ("TRIBUTARY__S3__SECRET_KEY", "canary"),
        ]);
        let error = error.expect_err("faults").to_string();
        for part in ["3 faults", "blobs", "s3.endpoint", "on loopback", "s3.secret_key"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("secret@") && !error.contains("canary"), "{error}");
    }
}
