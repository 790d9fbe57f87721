-- Jobs, rounds, tasks, updates, checkpoints, clients, history. The Postgres file of the same number
-- has the same tables and columns. Times that end in _us are wall clock, microseconds since 1970;
-- times that end in _ms are job time. Digests are text: sha256:<64 hex digits>.

CREATE TABLE clients (
    name          TEXT PRIMARY KEY,  -- operator-given, unique in the federation
    instance      TEXT NOT NULL,     -- the process that polled last
    version       TEXT NOT NULL,     -- its software, for people
    bindings      TEXT NOT NULL,     -- JSON: names, types and counts of its data sets
    first_seen_us INTEGER NOT NULL,
    last_seen_us  INTEGER NOT NULL
) STRICT;

CREATE TABLE jobs (
    id                     TEXT PRIMARY KEY,
    name                   TEXT NOT NULL,
    request_id             TEXT NOT NULL UNIQUE,  -- the caller's key: one job a key
    spec                   TEXT NOT NULL,         -- verbatim
    spec_digest            TEXT NOT NULL,
    data_need              TEXT NOT NULL,         -- JSON: what a client's data must be
    status                 TEXT NOT NULL CHECK (status IN
        ('submitted', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    reason                 TEXT,
    clock_ms               INTEGER NOT NULL CHECK (clock_ms >= 0),  -- job time
    checkpoint             TEXT NOT NULL,         -- the last good one
    result                 TEXT NOT NULL,         -- of the last committed round
    evaluation_deadline_ms INTEGER,               -- set while the final evaluation is open
    event_sequence         INTEGER NOT NULL,      -- head of the job's event chain
    event_digest           TEXT NOT NULL,
    version                INTEGER NOT NULL,      -- grows with every save
    lease_owner            TEXT,                  -- the replica that drives the job
    lease_token            TEXT,                  -- fences its writes
    lease_until_us         INTEGER,
    created_at_us          INTEGER NOT NULL,
    updated_at_us          INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_age ON jobs (created_at_us, id);
CREATE INDEX jobs_by_name ON jobs (name, created_at_us);

CREATE TABLE rounds (
    job              TEXT NOT NULL REFERENCES jobs (id),
    number           INTEGER NOT NULL CHECK (number >= 1),
    attempt          INTEGER NOT NULL CHECK (attempt >= 1),
    phase            TEXT NOT NULL CHECK (phase IN
        ('selecting', 'training', 'aggregating', 'committed', 'missed')),
    checkpoint_in    TEXT NOT NULL,
    roster           TEXT,               -- digest of the roster that the cohort was drawn from
    cohort_size      INTEGER NOT NULL,   -- updates that make the round complete
    cap_exponent     INTEGER NOT NULL,   -- c of the arithmetic
    opened_ms        INTEGER NOT NULL,
    training_ms      INTEGER,
    deadline_ms      INTEGER,
    closed_ms        INTEGER,
    committed_ms     INTEGER,
    checkpoint_out   TEXT,
    checkpoint_bytes INTEGER,
    examples         INTEGER,            -- sum of n over the accepted set
    statistics       TEXT,               -- JSON: sufficient statistics of the accepted set
    bytes_up         INTEGER,
    bytes_down       INTEGER,
    fold_ms          INTEGER,
    result           TEXT,               -- clock-free digest of the round
    created_at_us    INTEGER NOT NULL,
    updated_at_us    INTEGER NOT NULL,
    PRIMARY KEY (job, number, attempt)
) STRICT;

CREATE TABLE tasks (
    id                TEXT PRIMARY KEY,
    job               TEXT NOT NULL REFERENCES jobs (id),
    kind              TEXT NOT NULL CHECK (kind IN ('train', 'evaluate')),
    round             INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    client            TEXT NOT NULL,
    state             TEXT NOT NULL CHECK (state IN
        ('offered', 'leased', 'accepted', 'failed', 'lapsed', 'abandoned')),
    lease_until_ms    INTEGER NOT NULL,
    instance          TEXT,              -- the client's process that holds it
    progress          INTEGER NOT NULL,
    progress_total    INTEGER NOT NULL,
    accepted_digest   TEXT,
    accepted_examples INTEGER,
    reason            TEXT,
    created_at_us     INTEGER NOT NULL,
    updated_at_us     INTEGER NOT NULL
) STRICT;
CREATE INDEX tasks_by_round ON tasks (job, round);
CREATE INDEX tasks_by_client ON tasks (client, created_at_us)
    WHERE state IN ('offered', 'leased');

CREATE TABLE updates (
    task           TEXT PRIMARY KEY REFERENCES tasks (id),
    job            TEXT NOT NULL REFERENCES jobs (id),
    kind           TEXT NOT NULL CHECK (kind IN ('train', 'evaluate')),
    round          INTEGER NOT NULL,
    client         TEXT NOT NULL,
    digest         TEXT NOT NULL,
    examples       INTEGER NOT NULL,
    bytes          INTEGER NOT NULL,
    statistics     TEXT NOT NULL,   -- JSON
    position       INTEGER,         -- place in the accepted set; set once, when the round closes
    accepted_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX updates_by_round ON updates (job, round, kind);

CREATE TABLE checkpoints (
    job           TEXT NOT NULL REFERENCES jobs (id),
    round         INTEGER NOT NULL,  -- the round that made it; 0 for the first
    digest        TEXT NOT NULL,
    key           TEXT NOT NULL,     -- of the blob
    bytes         INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL,
    PRIMARY KEY (job, round)
) STRICT;
CREATE INDEX checkpoints_by_digest ON checkpoints (digest);

CREATE TABLE events (
    job      TEXT NOT NULL REFERENCES jobs (id),
    sequence INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    round    INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    client   TEXT,
    detail   TEXT NOT NULL,
    at_us    INTEGER NOT NULL,
    digest   TEXT NOT NULL,  -- of the previous event's digest and this event's fields
    PRIMARY KEY (job, sequence)
) STRICT;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TABLE rejections (
    id     TEXT PRIMARY KEY,
    job    TEXT,
    round  INTEGER NOT NULL,
    client TEXT NOT NULL,
    code   TEXT NOT NULL,
    detail TEXT NOT NULL,
    at_us  INTEGER NOT NULL
) STRICT;
CREATE INDEX rejections_by_job ON rejections (job, at_us);
