//! The coordinator's configuration: one TOML file, `TRIBUTARY__KEY` variables over it, and flags
//! over both. Unknown keys are faults; without any of them the embedded default runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use tributary_core::document::{Section, read_table};
use tributary_core::fault::Faults;

/// Where the coordinator listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7443";
/// Where it keeps what it must not lose, unless told otherwise.
pub const DATA_DIR_DEFAULT: &str = "tributary-data";
/// Prefix of the variables that override the file.
pub const ENV_PREFIX: &str = "TRIBUTARY__";
/// Longest configuration file.
const CONFIG_BYTES_MAX: usize = 1 << 20;

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
    pub database_url: String,
    /// Whether to listen beyond loopback without TLS.
    pub allow_insecure: bool,
    /// How long accepted updates are kept.
    pub keep_updates: KeepUpdates,
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
                set(&mut table, &key.to_lowercase(), text);
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
            database_url: sqlite_url(data_dir),
            allow_insecure: false,
            keep_updates: KeepUpdates::UntilCommit,
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
            let allow_insecure = root.boolean("allow_insecure", Some(false));
            let words =
                [("until_commit", KeepUpdates::UntilCommit), ("always", KeepUpdates::Always)];
            let keep = root.choice("keep_updates", &words, Some(KeepUpdates::UntilCommit));
            let listen = listen.unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
            if !listen.ip().is_loopback() && !allow_insecure {
                root.fault(
                    "listen",
                    "a loopback address: this build has no TLS yet, so anybody who reaches another \
                     address could read models and join (set allow_insecure = true only inside a \
                     private network)",
                    listen.to_string(),
                );
            }
            Self {
                listen,
                data_dir,
                database_url,
                allow_insecure,
                keep_updates: keep.unwrap_or(KeepUpdates::UntilCommit),
            }
        })
    }

    /// The configuration for people, without the database's password.
    #[must_use]
    pub fn redacted(&self) -> String {
        format!(
            "listen = {:?}, data_dir = {:?}, database_url = {:?}, allow_insecure = {}, keep_updates = {:?}",
            self.listen.to_string(),
            self.data_dir.display().to_string(),
            redact(&self.database_url),
            self.allow_insecure,
            match self.keep_updates {
                KeepUpdates::UntilCommit => "until_commit",
                KeepUpdates::Always => "always",
            },
        )
    }
}

fn read_database_url(root: &mut Section, data_dir: &Path) -> String {
    let url = root.text("database_url", Some(&sqlite_url(data_dir)));
    let known = ["sqlite://", "postgres://", "postgresql://"];
    if !known.iter().any(|scheme| url.starts_with(scheme)) {
        root.fault("database_url", "sqlite://PATH or postgres://USER@HOST/DATABASE", redact(&url));
    }
    url
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
        assert_eq!(config.database_url, "sqlite://tributary-data/tributary.sqlite");
    }

    #[test]
    fn every_fault_is_named_and_passwords_are_not() {
        let error = load(&[
            ("TRIBUTARY__LISTEN", "0.0.0.0:7443"),
            ("TRIBUTARY__DATABASE_URL", "mysql://me:secret@db/x"),
            ("TRIBUTARY__LISTN", "x"),
        ])
        .expect_err("faults")
        .to_string();
        for part in ["3 faults", "loopback", "database_url", "did you mean `listen`?"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(redact("postgres://me:secret@db/x"), "postgres://me:***@db/x");
    }
}
