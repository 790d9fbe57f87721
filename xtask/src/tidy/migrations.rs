//! Migrations: one number line for both engines, and a number once given stays what it is.

use super::{Finding, Text};

/// Every migration that there has ever been, in order. Append; never rename, reorder or remove:
/// databases remember what they have run by these numbers.
const KNOWN: &[&str] = &[
    "0001_initial.sql",
    "0002_identity.sql",
    "0003_replicas.sql",
    "0004_statistics.sql",
    "0005_divergence.sql",
    "0006_outcomes.sql",
];
const ENGINES: &[&str] = &["postgres", "sqlite"];

/// Files that do not follow the number line.
#[must_use]
pub fn numbers(texts: &[Text]) -> Vec<Finding> {
    compare(texts, KNOWN)
}

fn compare(texts: &[Text], known: &[&str]) -> Vec<Finding> {
    let mut found = Vec::new();
    for engine in ENGINES {
        let folder = format!("migrations/{engine}/");
        let names: Vec<&str> =
            texts.iter().filter_map(|text| text.path.strip_prefix(folder.as_str())).collect();
        for name in known.iter().filter(|name| !names.contains(name)) {
            let what = format!(
                "is missing: every migration exists for {} under one name, and none is renamed",
                ENGINES.join(" and ")
            );
            found.push(Finding::at(&format!("{folder}{name}"), 1, what));
        }
        for name in names.iter().filter(|name| !known.contains(name)) {
            let what = "is not in KNOWN (xtask/src/tidy/migrations.rs): append it there, and write \
                        it for both engines";
            found.push(Finding::at(&format!("{folder}{name}"), 1, what));
        }
    }
    for (at, name) in known.iter().enumerate() {
        if !name.starts_with(&format!("{:04}_", at + 1)) {
            let what = format!("has not the number {:04}: the line has no gaps", at + 1);
            found.push(Finding::at(&format!("migrations/*/{name}"), 1, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::tidy::Text;

    fn files(names: &[&str]) -> Vec<Text> {
        let text = |name: &&str| Text { path: format!("migrations/{name}"), text: String::new() };
        names.iter().map(text).collect()
    }

    #[test]
    fn both_engines_have_every_number_under_one_name() {
        let both = files(&["postgres/0001_a.sql", "sqlite/0001_a.sql"]);
        assert_eq!(compare(&both, &["0001_a.sql"]), []);
        assert_eq!(compare(&both[..1], &["0001_a.sql"]).len(), 1);
        assert_eq!(compare(&both, &["0001_b.sql"]).len(), 4);
        let gap = files(&["postgres/0002_a.sql", "sqlite/0002_a.sql"]);
        assert_eq!(compare(&gap, &["0002_a.sql"]).len(), 1);
        let new = files(&["postgres/0001_a.sql", "sqlite/0001_a.sql", "sqlite/0002_b.sql"]);
        assert_eq!(compare(&new, &["0001_a.sql"]).len(), 1);
    }
}
