//! Where the Postgres programs are: on PATH, else the newest of Debian's versioned folders.

use std::path::{Path, PathBuf};

/// Debian keeps one folder a major version here, outside PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder with `initdb`, `postgres` and `pg_ctl`, and `psql`.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) psql: PathBuf,
}

impl Binaries {
    pub(super) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.extend(versions(Path::new(DEBIAN)));
        let folder = folders.into_iter().find_map(|folder| complete(&folder))?;
        let beside = folder.join("psql");
        let psql = if beside.is_file() { Some(beside) } else { Self::psql() }?;
        Some(Self { folder, psql })
    }

    /// The client alone, for a server that was given by URL.
    pub(super) fn psql() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.extend(versions(Path::new(DEBIAN)));
        folders.into_iter().map(|folder| folder.join("psql")).find(|psql| psql.is_file())
    }
}

/// The folder that really holds the three programs: `initdb` on PATH may be a link to it.
fn complete(folder: &Path) -> Option<PathBuf> {
    let initdb = folder.join("initdb").canonicalize().ok()?;
    let real = initdb.parent()?;
    let all = ["initdb", "postgres", "pg_ctl"].iter().all(|name| real.join(name).is_file());
    all.then(|| real.to_owned())
}

/// `ROOT/17/bin`, `ROOT/15/bin`, …: newest first.
fn versions(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::{complete, versions};

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let root = tempfile::tempdir().expect("temp folder");
        for name in ["9", "17", "15", "common"] {
            std::fs::create_dir_all(root.path().join(name).join("bin")).expect("folder");
        }
        let names: Vec<_> = versions(root.path())
            .iter()
            .map(|bin| bin.strip_prefix(root.path()).expect("inside").display().to_string())
            .collect();
        assert_eq!(names, ["17/bin", "15/bin", "9/bin"]);
    }

    #[test]
    fn links_lead_to_the_folder_that_has_all_programs() {
        let root = tempfile::tempdir().expect("temp folder");
        let (real, linked) = (root.path().join("real"), root.path().join("linked"));
        std::fs::create_dir(&real).expect("folder");
        std::fs::create_dir(&linked).expect("folder");
        std::fs::write(real.join("initdb"), "").expect("file");
        std::os::unix::fs::symlink(real.join("initdb"), linked.join("initdb")).expect("link");
        assert_eq!(complete(&linked), None);
        std::fs::write(real.join("postgres"), "").expect("file");
        std::fs::write(real.join("pg_ctl"), "").expect("file");
        assert_eq!(complete(&linked), real.canonicalize().ok());
    }
}
