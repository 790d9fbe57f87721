//! The red team: one test an attack, over real TLS on real sockets. docs/threat-model.md says which
//! defence each of them tries.

#[path = "redteam/bodies.rs"]
mod bodies;
#[path = "redteam/certificates.rs"]
mod certificates;
#[path = "redteam/checkpoints.rs"]
mod checkpoints;
#[path = "redteam/coordinator.rs"]
mod coordinator;
#[path = "redteam/fields.rs"]
mod fields;
#[path = "redteam/floods.rs"]
mod floods;
#[path = "redteam/members.rs"]
mod members;
#[path = "redteam/numbers.rs"]
mod numbers;
#[path = "redteam/replicas.rs"]
mod replicas;
#[path = "redteam/scenes.rs"]
mod scenes;
#[path = "redteam/uploads.rs"]
mod uploads;
#[path = "redteam/wire.rs"]
mod wire;
#[path = "redteam/world.rs"]
mod world;
