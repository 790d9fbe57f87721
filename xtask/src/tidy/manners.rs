//! What no file says: glob imports, unfinished work, tests that do not run, `unsafe` outside the
//! audited modules, and anything that only means something on one machine.

use super::source::{Source, words};
use super::{Finding, Text};

/// Modules where `unsafe` may be allowed, each block with its reason.
const UNSAFE_HOMES: &[&str] = &["core/src/aggregate/kernel.rs", "learning/src/ops/"];

/// Macros for work that is not finished.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// Folders of somebody's machine. (Written in halves, so that this file passes.)
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
/// Hosts of package registries: which one is used is each machine's own setting.
const REGISTRIES: &[&str] = &[
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("deb.deb", "ian.org"),
    concat!("files.python", "hosted.org"),
    concat!("py", "pi.org"),
    concat!("registry.npm", "js.org"),
];
/// Written by cargo, which names its registry there.
const GENERATED: &[&str] = &["Cargo.lock"];

/// Glob imports and glob re-exports; tests may write `use super::*`.
#[must_use]
pub fn globs(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut in_use = false;
    for (at, code) in source.code.iter().enumerate() {
        let line = at + 1;
        let start = code.trim_start();
        let start = start.strip_prefix("pub ").unwrap_or(start);
        let start = start.strip_prefix("pub(crate) ").unwrap_or(start);
        in_use |= start.starts_with("use ");
        let fine = source.is_test_line(line) && code.trim() == "use super::*;";
        if in_use && code.contains("::*") && !fine {
            let what = "a glob import hides where names come from: list them";
            found.push(Finding::at(&source.path, line, what));
        }
        in_use &= !code.contains(';');
    }
    found
}

/// Unfinished work and tests that do not run.
#[must_use]
pub fn unfinished(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, code) in source.code.iter().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| contains_macro(code, word)) {
            let what = format!("`{word}`: finish it, or return an error that says what to do");
            found.push(Finding::at(&source.path, at + 1, what));
        }
        if code.contains("#[ignore") {
            let what = "an ignored test is no test: run it always, or print SKIP and why";
            found.push(Finding::at(&source.path, at + 1, what));
        }
    }
    found
}

fn contains_macro(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// `unsafe` that is allowed outside the audited modules.
#[must_use]
pub fn audited(source: &Source) -> Vec<Finding> {
    if UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    let allows = |code: &&str| words(code).any(|word| word == "unsafe_code");
    let what = "`unsafe` outside the audited modules (UNSAFE_HOMES in xtask): use one of them";
    let lines = source.code.iter().map(String::as_str).enumerate();
    lines
        .filter(|(_, code)| allows(code))
        .map(|(at, _)| Finding::at(&source.path, at + 1, what))
        .collect()
}

/// Paths and hosts that mean something on one machine only.
#[must_use]
pub fn local(text: &Text) -> Vec<Finding> {
    let mut found = Vec::new();
    if GENERATED.contains(&text.path.as_str()) {
        return found;
    }
    for (at, line) in text.text.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
            let what = format!("`{path}` is a folder of one machine: use a path from the root");
            found.push(Finding::at(&text.path, at + 1, what));
        }
        if let Some(host) = REGISTRIES.iter().find(|host| line.contains(**host)) {
            let what = format!("names the registry host {host}: leave that to the machine");
            found.push(Finding::at(&text.path, at + 1, what));
        }
    }
    found
}

/// Whether the line names the absolute path (`a/work/b` and `https://host/home/` name none).
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}'))
    })
}

#[cfg(test)]
mod tests {
    use super::{audited, globs, local, unfinished};
    use crate::tidy::Text;
    use crate::tidy::source::Source;

    #[test]
    fn globs_are_found() {
        for bad in ["use a::*;", "pub use a::b::*;", "use a::{\n  b::*,\n};", "use super::*;"] {
            assert_eq!(globs(&Source::new("src/a.rs", bad)).len(), 1, "{bad}");
        }
        assert_eq!(globs(&Source::new("src/tests.rs", "use super::*;")), []);
        assert_eq!(globs(&Source::new("src/a.rs", "let x = 2 * a::b;")), []);
    }

    #[test]
    fn unfinished_work_is_found() {
        let bad = ["todo!()", "dbg!(x)", "#[ignore]\nfn a() {}", "#[ignore = \"slow\"]"];
        for text in bad {
            assert_eq!(unfinished(&Source::new("a.rs", text)).len(), 1, "{text}");
        }
        assert_eq!(unfinished(&Source::new("a.rs", "// todo!()\nmy_todo!();")), []);
    }

    #[test]
    fn unsafe_is_audited() {
        let text = "#[allow(unsafe_code)]\nfn a() {}\n";
        assert_eq!(audited(&Source::new("learning/src/ops/matrix.rs", text)), []);
        assert_eq!(audited(&Source::new("client/src/agent.rs", text)).len(), 1);
    }

    #[test]
    fn a_machine_is_not_named() {
        let count = |path: &str, text: &str| {
            local(&Text { path: path.to_owned(), text: text.to_owned() }).len()
        };
        let path = format!("data = \"/{}/data\"", "root");
        assert_eq!(count("a.toml", &path), 1);
        assert_eq!(count("a.toml", &format!("data = \"my/{}/data\"", "root")), 0);
        assert_eq!(count("a.md", &format!("from index.{}.io", "crates")), 1);
        assert_eq!(count("Cargo.lock", &format!("from index.{}.io", "crates")), 0);
    }
}
