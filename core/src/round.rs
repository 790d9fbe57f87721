//! The round machine.
