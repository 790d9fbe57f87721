//! The operator's commands on a running coordinator.

pub(crate) mod audit;
pub(crate) mod clients;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod initial;
pub(crate) mod members;
pub(crate) mod model;
pub(crate) mod rounds;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod watch;

use serde::Serialize;

/// Prints one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
