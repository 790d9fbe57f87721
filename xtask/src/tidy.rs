//! The walls and the manners that no compiler sees, as checks over the tree. Each gives findings,
//! and a finding names its place and says what to do.

pub mod manners;
pub mod migrations;
pub mod packages;
pub mod shape;
pub mod source;
pub mod walls;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use source::Source;

/// Something to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `path:line`, or a package.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Finding {
    /// A finding at a line, counted from 1.
    #[must_use]
    pub fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), what: what.into() }
    }

    /// A finding about a package.
    #[must_use]
    pub fn about(package: &str, what: impl Into<String>) -> Self {
        Self { place: package.to_owned(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A text file of the tree.
#[derive(Debug, Clone)]
pub struct Text {
    /// From the root, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// All text files of the tree that git does not ignore.
#[derive(Debug)]
pub struct Tree {
    /// Every text file.
    pub texts: Vec<Text>,
    /// The Rust ones, taken apart.
    pub sources: Vec<Source>,
}

impl Tree {
    /// Reads the tree.
    ///
    /// # Errors
    /// Where git cannot list it or a file cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let listed = git.output().context("run git")?;
        let said = String::from_utf8_lossy(&listed.stderr);
        anyhow::ensure!(listed.status.success(), "git ls-files: {}", said.trim());
        let mut texts = Vec::new();
        for path in listed.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let path = String::from_utf8_lossy(path).into_owned();
            let file = root.join(&path);
            // A file deleted but not yet committed is still listed; a link has its target checked.
            if !std::fs::symlink_metadata(&file).is_ok_and(|file| file.is_file()) {
                continue;
            }
            let bytes = std::fs::read(&file).with_context(|| format!("read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                texts.push(Text { path, text });
            }
        }
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let is_rust = |text: &&Text| text.path.ends_with(".rs");
        let sources = texts.iter().filter(is_rust).map(|t| Source::new(&t.path, &t.text)).collect();
        Ok(Self { texts, sources })
    }
}
