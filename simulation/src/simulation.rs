//! Whole federations in one thread: the real round machine, drivers, services and agents, over a clock, a
//! network, a database and blobs that are simulated and fail, with processes that end and stand still
//! anywhere. A seed decides all of it, and the same seed gives the same run.

mod chance;
mod network;
mod node;
mod op;
mod operator;
mod regressions;
mod rules;
mod run;
mod seeds;
mod shrink;
mod storage;
mod trainer;
mod world;
