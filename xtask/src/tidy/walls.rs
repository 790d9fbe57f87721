//! Which sources may name what: the walls between the rooms, scanned in code that is no test.

use super::Finding;
use super::source::{Source, words};

/// A name that may be used in some rooms only.
struct Wall {
    /// The beginning of the word.
    name: &'static str,
    /// Modules (`a/b` is `a/b.rs` and all of `a/b/`) where it may be used.
    homes: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        name: "tonic",
        homes: &["proto", "coordinator/src/grpc", "client/src/rpc", "cli", "simulation"],
        instead: "pass domain values; the wire's library stays in proto, grpc, rpc and cli (and in \
                  simulation, which carries calls)",
    },
    Wall {
        name: "sqlx",
        homes: &["coordinator/src/store"],
        instead: "add a method to the store; SQL lives there alone",
    },
    Wall {
        name: "object_store",
        homes: &["coordinator/src/blobs"],
        instead: "add a method to the blobs; the engine stays behind them",
    },
    Wall {
        name: "rcgen",
        homes: &["coordinator/src/authority", "client/src/identity"],
        instead: "keys and certificates are made in authority and identity alone",
    },
    Wall {
        name: "candle_",
        homes: &["learning"],
        instead: "ask the learning package; it alone links candle",
    },
];

/// How SQL begins; every literal outside the store is looked at.
const SQL: &[&str] =
    &["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "ALTER TABLE "];
/// Where SQL may stand: the store, and `CREATE DATABASE` for tests is none of the above.
const SQL_HOME: &str = "coordinator/src/store";

/// Modules of the standard library, and types of it, that are no part of a pure package.
const IMPURE_MODULES: &[&str] = &["env", "fs", "net", "process", "thread"];
const IMPURE_WORDS: &[&str] = &["Instant", "SystemTime", "HashMap", "HashSet", "RandomState"];
const PURE: &str = "core/src";
/// The round machine holds digests; weights never pass through it.
const ROUND: &str = "core/src/round";

/// Names in rooms where they may not be.
#[must_use]
pub fn names(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for wall in WALLS.iter().filter(|wall| !wall.homes.iter().any(|home| within(source, home))) {
        for (line, code) in source.own_code() {
            if let Some(word) = words(code).find(|word| named(word, wall.name)) {
                let what = format!("`{word}` has no business here: {}", wall.instead);
                found.push(Finding::at(&source.path, line, what));
            }
        }
    }
    found
}

/// SQL outside the store.
#[must_use]
pub fn sql(source: &Source) -> Vec<Finding> {
    if within(source, SQL_HOME) {
        return Vec::new();
    }
    let begins = |text: &str| {
        let text = text.trim_start_matches(['"', ' ', '\n', '\\']);
        let rest = SQL.iter().find_map(|begin| text.strip_prefix(begin));
        // A keyword alone (as in the list above) asks for nothing.
        rest.is_some_and(|rest| rest.len() > "\"".len())
    };
    let literals = source.strings.iter().filter(|(line, _)| !source.is_test_line(*line));
    literals
        .filter(|(_, text)| begins(text))
        .map(|(line, _)| {
            let what = format!("SQL outside {SQL_HOME}: add a method to the store");
            Finding::at(&source.path, *line, what)
        })
        .collect()
}

/// Files, clocks, threads, sockets and randomly ordered maps in `core`.
#[must_use]
pub fn purity(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with(PURE) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut in_std_use = false;
    for (line, code) in source.own_code() {
        let start = code.trim_start();
        in_std_use |= start.starts_with("use std::");
        let module = |module: &&&str| {
            code.contains(&format!("std::{module}"))
                || (in_std_use && words(code).any(|word| word == **module))
        };
        let bad_module = IMPURE_MODULES.iter().find(module).copied();
        let bad_word = words(code).find(|word| IMPURE_WORDS.contains(word));
        if let Some(bad) = bad_module.or(bad_word) {
            let what = format!("`{bad}` in a pure package: take what it gives as an argument");
            found.push(Finding::at(&source.path, line, what));
        }
        in_std_use &= !code.contains(';');
    }
    found
}

/// Weights in the round machine.
#[must_use]
pub fn weightless(source: &Source) -> Vec<Finding> {
    if !within(source, ROUND) {
        return Vec::new();
    }
    let named = |(_, code): &(usize, &str)| words(code).any(|word| word == "params");
    let what = "the round machine names `params`: it holds digests, the data plane moves bytes";
    source.own_code().filter(named).map(|(line, _)| Finding::at(&source.path, line, what)).collect()
}

/// Whether a file is the module `home` or lies in its folder.
fn within(source: &Source, home: &str) -> bool {
    let rest = source.path.strip_prefix(home);
    rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Whether a word is the name, or the name with `_` and more.
fn named(word: &str, name: &str) -> bool {
    let rest = word.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || name.ends_with('_') || rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::{names, purity, sql, weightless};
    use crate::tidy::source::Source;

    fn count(check: impl Fn(&Source) -> Vec<super::Finding>, path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn names_stay_in_their_rooms() {
        let text = "use tonic_types::X;\n// tonic\nfn tonics() {}\n#[cfg(test)]\nmod tests { use tonic::Y; }\n";
        assert_eq!(count(names, "client/src/rpc.rs", text), 0);
        assert_eq!(count(names, "client/src/rpc/fetch.rs", text), 0);
        assert_eq!(count(names, "coordinator/src/grpc/job.rs", text), 0);
        assert_eq!(count(names, "coordinator/src/app.rs", text), 1);
        assert_eq!(count(names, "client/src/rpcs.rs", text), 1);
        assert_eq!(count(names, "client/src/trainer.rs", "mod candle;\n"), 0);
        assert_eq!(count(names, "client/src/trainer.rs", "candle_core::Tensor\n"), 1);
        assert_eq!(count(names, "coordinator/src/app.rs", "use sqlx::Pool;\n"), 1);
    }

    #[test]
    fn sql_stays_in_the_store() {
        let text = "let q = \"\n    SELECT id FROM jobs\";\nlet s = \"selected\";\n";
        assert_eq!(count(sql, "coordinator/src/store/jobs.rs", text), 0);
        assert_eq!(count(sql, "coordinator/src/driver.rs", text), 1);
    }

    #[test]
    fn core_opens_nothing_and_knows_no_clock() {
        let good = "use std::collections::BTreeMap;\nuse std::{fmt, str};\nlet env = fs;\n";
        assert_eq!(count(purity, "core/src/a.rs", good), 0);
        for bad in [
            "use std::fs::File;",
            "use std::{fmt,\n  fs};",
            "std::thread::sleep(d);",
            "fn at(t: std::time::Instant) {}",
            "use std::collections::HashMap;",
        ] {
            assert_eq!(count(purity, "core/src/a.rs", bad), 1, "{bad}");
            assert_eq!(count(purity, "client/src/a.rs", bad), 0, "{bad}");
        }
    }

    #[test]
    fn the_round_machine_holds_no_weights() {
        assert_eq!(count(weightless, "core/src/round/step.rs", "use crate::params::Set;"), 1);
        assert_eq!(count(weightless, "core/src/aggregate.rs", "use crate::params::Set;"), 0);
    }
}
