//! The targets, by whose bytes they read.

mod convert;
mod enrolment;
mod formats;
mod pictures;
mod site;
mod spec;
mod weights;

use crate::Target;
use crate::corpus::Seed;

/// Every target, by name.
#[must_use]
pub fn all() -> Vec<Target> {
    let rooms = [
        spec::TARGETS,
        weights::TARGETS,
        enrolment::TARGETS,
        site::TARGETS,
        convert::TARGETS,
        formats::TARGETS,
        pictures::TARGETS,
    ];
    let mut targets = rooms.concat();
    targets.sort_by_key(|target| target.name);
    targets
}

/// A target's name.
///
/// # Errors
/// Where there is none of this name; the error lists them.
pub fn named(name: &str) -> anyhow::Result<Target> {
    let found = all().into_iter().find(|target| target.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = all().iter().map(|target| target.name).collect();
        anyhow::anyhow!("expected a target ({}), found {name:?}", names.join(", "))
    })
}

/// What a target's mutations begin from where no file may hold it; made anew in each run.
#[must_use]
pub fn fresh(name: &str) -> Option<Seed> {
    let bytes = (name == "identity_file").then(enrolment::fresh_identity)?;
    Some(Seed { name: "good-fresh".to_owned(), bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{all, fresh, named};
    use crate::corpus;

    #[test]
    fn every_target_has_files_and_every_folder_a_target() {
        let names: BTreeSet<String> = all().iter().map(|t| t.name.to_owned()).collect();
        assert_eq!(names.len(), all().len(), "one of each name");
        let folders = std::fs::read_dir(corpus::folder()).expect("listed");
        let folders: BTreeSet<String> = folders
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.file_type().expect("a type").is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let made = |name: &String| fresh(name).is_none();
        assert_eq!(folders, names.into_iter().filter(made).collect());
        let error = named("nothing").map(|target| target.name).expect_err("unknown").to_string();
        assert!(error.contains("convert") && error.contains("\"nothing\""), "{error}");
    }
}
