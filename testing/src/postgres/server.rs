//! Databases on a running server, made and dropped through `psql`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::watchdog::Watchdog;

/// Collects the names it is told, and drops those databases when the test process has ended.
const DROP: &str = r#"names=
while read -r name; do names="$names $name"; done
for name in $names; do
  "$1" -X -q -w -d "$2" -c "DROP DATABASE IF EXISTS $name WITH (FORCE)"
done"#;

/// A server, by the URL of a database that exists on it.
#[derive(Debug)]
pub(super) struct Server {
    psql: PathBuf,
    url: String,
    /// Drops what was made; `None` where the whole cluster goes anyway.
    cleaner: Option<Mutex<Watchdog>>,
}

impl Server {
    /// A server whose databases are dropped again.
    pub(super) fn new(url: &str, psql: PathBuf) -> anyhow::Result<Self> {
        with_database(url, "probe")?;
        let arguments = [psql.as_os_str(), OsStr::new(url)];
        let cleaner = Some(Mutex::new(Watchdog::spawn(DROP, &arguments, None)?));
        Ok(Self { psql, url: url.to_owned(), cleaner })
    }

    /// A server whose files are removed as a whole.
    pub(super) fn ephemeral(url: String, psql: PathBuf) -> Self {
        Self { psql, url, cleaner: None }
    }

    /// Makes an empty database and gives its URL.
    pub(super) fn create(&self, name: &str) -> anyhow::Result<String> {
        let url = with_database(&self.url, name)?;
        if let Some(cleaner) = &self.cleaner {
            cleaner.lock().unwrap_or_else(PoisonError::into_inner).tell(name)?;
        }
        let output = Command::new(&self.psql)
            .args(["-X", "-q", "-w", "-d", &self.url, "-c", &format!("CREATE DATABASE {name}")])
            .env_remove("PGOPTIONS")
            .output()
            .with_context(|| format!("run {}", self.psql.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "create database {name}: {}", said.trim());
        Ok(url)
    }
}

/// The URL with another database name; it must name a user, because clients guess differently.
fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let shape = "expected postgres://USER@HOST[:PORT]/DATABASE";
    let (scheme, rest) = url.split_once("://").context(shape)?;
    anyhow::ensure!(matches!(scheme, "postgres" | "postgresql"), "{shape}");
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, q)| (rest, Some(q)));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    anyhow::ensure!(!user.is_empty(), "{shape}: the URL names no user");
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{scheme}://{authority}/{name}{query}"))
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_changes() {
        let cases = [
            ("postgres://me@h:1/old", "postgres://me@h:1/new"),
            ("postgresql://me:p@h/old?sslmode=require", "postgresql://me:p@h/new?sslmode=require"),
            ("postgres://me@h", "postgres://me@h/new"),
        ];
        for (url, want) in cases {
            assert_eq!(with_database(url, "new").expect(url), want);
        }
        for url in ["postgres://h/old", "mysql://me@h/old", "h/old", "postgres://@h/old"] {
            with_database(url, "new").expect_err(url);
        }
    }
}
