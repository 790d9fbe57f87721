//! The shape of files: a first line that says the subject, few enough lines, functions that fit a
//! screen, names that are nouns.

use super::Finding;
use super::source::Source;

/// Own lines of a file, tests apart: wanted, and the end.
const FILE_WANTED: usize = 400;
const FILE_MAX: usize = 600;
/// Lines of a function.
const FUNCTION_MAX: usize = 70;

/// Files above what is wanted, each with the length that it may not exceed. Entries only shrink:
/// a file that fits goes off the list, and none comes on to it without a word in the review.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions (`path::name`) above the most, as above.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Names that say nothing about what is inside.
const NAMELESS: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Files without their one subject in the first line.
#[must_use]
pub fn subject(source: &Source) -> Vec<Finding> {
    if source.lines.first().is_some_and(|line| line.starts_with("//! ")) {
        return Vec::new();
    }
    let what = "begin the file with a `//! ` line that says its one subject";
    vec![Finding::at(&source.path, 1, what)]
}

/// Files that are too long.
#[must_use]
pub fn files(source: &Source) -> Vec<Finding> {
    let own = source.own_length();
    if own == 0 {
        // A file of tests alone: only the hard end holds.
        return over(&source.path, source.lines.len(), FILE_MAX).into_iter().collect();
    }
    let ratchet = LONG_FILES.iter().find(|(path, _)| *path == source.path).map(|(_, most)| *most);
    match ratchet {
        Some(_) if own <= FILE_WANTED => {
            let what = format!("has {own} lines now: take it off LONG_FILES (xtask)");
            vec![Finding::at(&source.path, 1, what)]
        }
        Some(most) => over(&source.path, own, most.min(FILE_MAX)).into_iter().collect(),
        None => over(&source.path, own, FILE_WANTED).into_iter().collect(),
    }
}

fn over(path: &str, length: usize, most: usize) -> Option<Finding> {
    let what = format!(
        "{length} lines, tests apart, of {most} that it may have: give a part of its subject a file \
         of its own"
    );
    (length > most).then(|| Finding::at(path, 1, what))
}

/// Functions that are too long.
#[must_use]
pub fn functions(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for function in source.functions() {
        let place = format!("{}::{}", source.path, function.name);
        let ratchet = LONG_FUNCTIONS.iter().find(|(name, _)| *name == place).map(|(_, most)| *most);
        let most = ratchet.unwrap_or(FUNCTION_MAX);
        if function.length > most {
            let what = format!(
                "`{}` has {} lines of {most} that it may have: name its steps",
                function.name, function.length
            );
            found.push(Finding::at(&source.path, function.line, what));
        } else if ratchet.is_some() && function.length <= FUNCTION_MAX {
            let what = format!("`{}` fits now: take it off LONG_FUNCTIONS (xtask)", function.name);
            found.push(Finding::at(&source.path, function.line, what));
        }
    }
    found
}

/// Modules named after nothing, and `mod.rs`.
#[must_use]
pub fn modules(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = source.path.rsplit('/').next().unwrap_or_default();
    if name == "mod.rs" {
        let what = "use `name.rs` beside the folder `name/`, not `name/mod.rs`";
        found.push(Finding::at(&source.path, 1, what));
    }
    let parts = source.path.trim_end_matches(".rs").split('/');
    for part in parts.filter(|part| NAMELESS.contains(part)) {
        let what = format!("`{part}` says nothing: name the module after the noun it is about");
        found.push(Finding::at(&source.path, 1, what));
    }
    for (at, code) in source.code.iter().enumerate() {
        let declared = code.trim_start().trim_start_matches("pub ").strip_prefix("mod ");
        let declared = declared.and_then(|rest| rest.split([' ', ';', '{']).next());
        if let Some(part) = declared.filter(|part| NAMELESS.contains(part)) {
            let what = format!("`{part}` says nothing: name the module after the noun it is about");
            found.push(Finding::at(&source.path, at + 1, what));
        }
    }
    found
}

/// Ratchet entries for files and functions that are no more.
#[must_use]
pub fn stale(sources: &[Source]) -> Vec<Finding> {
    let gone = |path: &str| !sources.iter().any(|source| source.path == path);
    let files = LONG_FILES.iter().map(|(path, _)| (*path, *path));
    let functions = LONG_FUNCTIONS
        .iter()
        .map(|(place, _)| (place.split("::").next().unwrap_or_default(), *place));
    files
        .chain(functions)
        .filter(|(path, _)| gone(path))
        .map(|(path, entry)| Finding::at(path, 1, format!("is gone: take {entry} off the list")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{FILE_MAX, FILE_WANTED, FUNCTION_MAX, files, functions, modules, subject};
    use crate::tidy::source::Source;

    fn lines(count: usize) -> String {
        "x();\n".repeat(count)
    }

    #[test]
    fn the_first_line_says_the_subject() {
        assert_eq!(subject(&Source::new("a.rs", "//! A.\n")), []);
        assert_eq!(subject(&Source::new("a.rs", "use b;\n//! A.\n")).len(), 1);
        assert_eq!(subject(&Source::new("a.rs", "")).len(), 1);
    }

    #[test]
    fn long_files_are_found_and_their_tests_do_not_count() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(300));
        let fits = format!("{}{tests}", lines(FILE_WANTED));
        assert_eq!(files(&Source::new("a.rs", &fits)), []);
        assert_eq!(files(&Source::new("a.rs", &lines(FILE_WANTED + 1))).len(), 1);
        assert_eq!(files(&Source::new("a/tests.rs", &lines(FILE_MAX))), []);
        assert_eq!(files(&Source::new("a/tests.rs", &lines(FILE_MAX + 1))).len(), 1);
    }

    #[test]
    fn long_functions_are_found() {
        let function = |body: usize| format!("fn f() {{\n{}}}\n", lines(body));
        assert_eq!(functions(&Source::new("a.rs", &function(FUNCTION_MAX - 2))), []);
        let found = functions(&Source::new("a.rs", &function(FUNCTION_MAX - 1)));
        assert!(found[0].to_string().starts_with("a.rs:1: `f` has 71 lines"), "{found:?}");
    }

    #[test]
    fn modules_are_nouns() {
        for (path, text) in [
            ("a/mod.rs", ""),
            ("a/utils.rs", ""),
            ("common/a.rs", ""),
            ("a.rs", "mod helpers;"),
            ("a.rs", "pub mod util {}"),
        ] {
            assert_eq!(modules(&Source::new(path, text)).len(), 1, "{path} {text}");
        }
        assert_eq!(modules(&Source::new("a/commons.rs", "mod utility;")), []);
    }
}
