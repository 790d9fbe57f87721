//! The blob store: checkpoints and updates on the `object_store` crate.
