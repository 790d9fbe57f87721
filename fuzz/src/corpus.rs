//! The files that mutations begin from.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Longest file: mutations of longer ones seldom meet what matters, and the repository stays small.
pub const BYTES_MAX: usize = 16 << 10;

/// How files are named that their target accepts.
pub const GOOD: &str = "good-";
/// How files are named that were findings once; a target may accept or refuse them.
pub const BAD: &str = "bad-";

/// A file of the corpus.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// The corpus of this package.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// A target's files, by name.
///
/// # Errors
/// When there are none, or one is too long or of another name.
pub fn read(folder: &Path, target: &str) -> anyhow::Result<Vec<Seed>> {
    let folder = folder.join(target);
    let listed = std::fs::read_dir(&folder);
    let mut seeds = Vec::new();
    for entry in listed.with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            bytes.len() <= BYTES_MAX,
            "{}: expected at most {BYTES_MAX} bytes, found {}",
            path.display(),
            bytes.len()
        );
        ensure!(
            name.starts_with(GOOD) || name.starts_with(BAD),
            "{}: expected a name that begins with {GOOD} or {BAD}",
            path.display()
        );
        seeds.push(Seed { name, bytes });
    }
    ensure!(!seeds.is_empty(), "{}: expected files, found none", folder.display());
    seeds.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(seeds)
}
