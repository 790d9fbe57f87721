//! What our packages may depend on: their direction, who may link what, and what `core` and the
//! coordinator must never link, not even through somebody else.

use anyhow::Context as _;
use serde_json::Value;

use super::Finding;
use crate::cargo;

/// Each package of ours with all packages of ours that it may depend on.
const DIRECTION: &[(&str, &[&str])] = &[
    ("tributary-core", &[]),
    ("tributary-outside", &[]),
    ("tributary-proto", &["tributary-core"]),
    ("tributary-data", &["tributary-core"]),
    ("tributary-learning", &["tributary-core", "tributary-data"]),
    ("tributary-coordinator", &["tributary-core", "tributary-outside", "tributary-proto"]),
    (
        "tributary-client",
        &[
            "tributary-core",
            "tributary-data",
            "tributary-learning",
            "tributary-outside",
            "tributary-proto",
        ],
    ),
    (
        "tributary-simulation",
        &[
            "tributary-client",
            "tributary-coordinator",
            "tributary-core",
            "tributary-outside",
            "tributary-proto",
        ],
    ),
    (
        "tributary",
        &[
            "tributary-core",
            "tributary-data",
            "tributary-proto",
            "tributary-coordinator",
            "tributary-client",
            "tributary-learning",
            // `bench chaos` starts and kills processes and a database of its own.
            "tributary-testing",
        ],
    ),
    ("tributary-testing", &[]),
    // What reads strangers' bytes is everywhere.
    (
        "tributary-fuzz",
        &[
            "tributary-core",
            "tributary-data",
            "tributary-proto",
            "tributary-coordinator",
            "tributary-client",
            "tributary-learning",
        ],
    ),
    ("xtask", &[]),
];

/// What tests may use anywhere but in `core`, whose tests need nothing from the machine.
const TEST_SUPPORT: &str = "tributary-testing";

/// Families of packages (by the beginning of their names) and who alone may name them.
const FAMILIES: &[(&str, &[&str])] = &[
    (
        "tonic",
        &[
            "tributary-proto",
            "tributary-coordinator",
            "tributary-client",
            "tributary",
            // It carries the calls.
            "tributary-simulation",
        ],
    ),
    ("sqlx", &["tributary-coordinator"]),
    ("object_store", &["tributary-coordinator"]),
    // The client under object_store, named for its features alone.
    ("reqwest", &["tributary-coordinator"]),
    ("s3s", &["tributary-testing"]),
    ("candle", &["tributary-learning"]),
];

/// What waits, sleeps, opens or guesses, by the beginning of the name.
const IMPURE: &[&str] = &[
    "async-",
    "candle",
    "chrono",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "jiff",
    "mio",
    "object_store",
    "rand",
    "reqwest",
    "rustls",
    "socket2",
    "sqlx",
    "tempfile",
    "tokio",
    "tonic",
    "uuid",
];

/// A dependency as a manifest states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package that depends.
    pub from: String,
    /// The package that it depends on.
    pub to: String,
    /// Whether only tests use it.
    pub is_dev: bool,
}

/// Our packages and what their manifests name.
///
/// # Errors
/// Where cargo does not answer.
pub fn read() -> anyhow::Result<(Vec<String>, Vec<Dependency>)> {
    let text = ask(&["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: Value = serde_json::from_str(&text).context("read cargo metadata")?;
    let (mut packages, mut dependencies) = (Vec::new(), Vec::new());
    for package in metadata["packages"].as_array().context("no packages")? {
        let from = package["name"].as_str().context("no name")?.to_owned();
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            let to = dependency["name"].as_str().context("no name")?.to_owned();
            let is_dev = dependency["kind"].as_str() == Some("dev");
            dependencies.push(Dependency { from: from.clone(), to, is_dev });
        }
        packages.push(from);
    }
    Ok((packages, dependencies))
}

/// Dependencies between our packages that the direction does not allow.
#[must_use]
pub fn direction(packages: &[String], dependencies: &[Dependency]) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in packages {
        if !DIRECTION.iter().any(|(name, _)| name == package) {
            let what =
                "is not in DIRECTION (xtask/src/tidy/packages.rs): say what it may depend on";
            found.push(Finding::about(package, what));
        }
    }
    for Dependency { from, to, is_dev } in dependencies {
        let ours = packages.contains(to);
        let line = DIRECTION.iter().find(|(name, _)| name == from);
        let allowed = line.is_some_and(|(_, allowed)| allowed.contains(&to.as_str()));
        let support = *is_dev && to == TEST_SUPPORT && from != "tributary-core";
        if ours && !allowed && !support {
            let what = format!(
                "depends on {to}, against the direction of the rooms: pass what it needs as data, \
                 or move the code to a room that may"
            );
            found.push(Finding::about(from, what));
        }
    }
    found
}

/// Packages of others that a manifest of ours names in the wrong room.
#[must_use]
pub fn families(dependencies: &[Dependency]) -> Vec<Finding> {
    let mut found = Vec::new();
    for Dependency { from, to, .. } in dependencies {
        for (family, homes) in FAMILIES {
            if to.starts_with(family) && !homes.contains(&from.as_str()) {
                let homes = homes.join(", ");
                let what = format!("names {to}, which only {homes} may: remove it");
                found.push(Finding::about(from, what));
            }
        }
    }
    found
}

/// What `core` links that is not pure.
///
/// # Errors
/// Where cargo does not answer.
pub fn core_links() -> anyhow::Result<Vec<Finding>> {
    Ok(impure("tributary-core", &linked("tributary-core")?, IMPURE))
}

/// What the coordinator links of candle: held-out evaluation is a client's work.
///
/// # Errors
/// Where cargo does not answer.
pub fn coordinator_links() -> anyhow::Result<Vec<Finding>> {
    Ok(impure("tributary-coordinator", &linked("tributary-coordinator")?, &["candle"]))
}

fn impure(package: &str, linked: &[String], prefixes: &[&str]) -> Vec<Finding> {
    let wrong = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let finding = |name: &String| {
        let what = format!(
            "links {name}, which it must not: `cargo tree -e normal,build -p {package} -i {name}` \
             shows through whom"
        );
        Finding::about(package, what)
    };
    linked.iter().filter(wrong).map(finding).collect()
}

/// Names of all packages that a package of ours links, for every platform.
fn linked(package: &str) -> anyhow::Result<Vec<String>> {
    let tree = ask(&[
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        "normal,build",
        "--target",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    let mut names: Vec<String> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    anyhow::ensure!(names.len() > 1, "cargo tree lists nothing for {package}");
    Ok(names)
}

fn ask(arguments: &[&str]) -> anyhow::Result<String> {
    let output = cargo().args(arguments).output().context("run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cargo {}: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).context("cargo speaks no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::{Dependency, direction, families, impure};

    fn edge(from: &str, to: &str, is_dev: bool) -> Dependency {
        Dependency { from: from.to_owned(), to: to.to_owned(), is_dev }
    }

    #[test]
    fn a_dependency_against_the_direction_is_found() {
        let packages: Vec<String> = ["tributary-core", "tributary-proto", "tributary-testing"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        let good = [
            edge("tributary-proto", "tributary-core", false),
            edge("tributary-proto", "tributary-testing", true),
            edge("tributary-proto", "serde", false),
        ];
        assert_eq!(direction(&packages, &good), []);
        for (from, to, is_dev) in [
            ("tributary-core", "tributary-proto", false),
            ("tributary-core", "tributary-testing", true),
            ("tributary-proto", "tributary-testing", false),
        ] {
            assert_eq!(direction(&packages, &[edge(from, to, is_dev)]).len(), 1, "{from} {to}");
        }
        assert_eq!(direction(&["tributary-new".to_owned()], &[]).len(), 1);
    }

    #[test]
    fn a_stranger_in_the_wrong_room_is_found() {
        assert_eq!(families(&[edge("tributary-proto", "tonic-types", false)]), []);
        assert_eq!(families(&[edge("tributary-core", "tonic-types", true)]).len(), 1);
        assert_eq!(families(&[edge("tributary-client", "candle-core", false)]).len(), 1);
        let linked = ["serde".to_owned(), "getrandom".to_owned()];
        assert_eq!(impure("tributary-core", &linked, &["getrandom"]).len(), 1);
    }
}
