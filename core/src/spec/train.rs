//! How a client trains: epochs, batches, optimiser.
