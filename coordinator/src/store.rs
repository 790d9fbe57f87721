//! The only place with SQL: jobs, rounds, tasks, updates, clients, events.
