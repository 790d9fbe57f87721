-- Jobs, rounds, tasks, updates, checkpoints, clients, history. The SQLite file of the same number
-- has the same tables and columns. Times that end in _us are wall clock, microseconds since 1970;
-- times that end in _ms are job time. Digests are text: sha256:<64 hex digits>.

CREATE TABLE clients (
    name          TEXT PRIMARY KEY,  -- operator-given, unique in the federation
    instance      TEXT NOT NULL,     -- the process that polled last
    version       TEXT NOT NULL,     -- its software, for people
    bindings      TEXT NOT NULL,     -- JSON: names, types and counts of its data sets
    first_seen_us BIGINT NOT NULL,
    last_seen_us  BIGINT NOT NULL
);

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
    clock_ms               BIGINT NOT NULL CHECK (clock_ms >= 0),  -- job time
    checkpoint             TEXT NOT NULL,         -- the last good one
    result                 TEXT NOT NULL,         -- of the last committed round
    evaluation_deadline_ms BIGINT,               -- set while the final evaluation is open
    event_sequence         BIGINT NOT NULL,      -- head of the job's event chain
    event_digest           TEXT NOT NULL,
    version                BIGINT NOT NULL,      -- grows with every save
    lease_owner            TEXT,                  -- the replica that drives the job
    lease_token            TEXT,                  -- fences its writes
    lease_until_us         BIGINT,
    created_at_us          BIGINT NOT NULL,
    updated_at_us          BIGINT NOT NULL
);
CREATE INDEX jobs_by_age ON jobs (created_at_us, id);
CREATE INDEX jobs_by_name ON jobs (name, created_at_us);

CREATE TABLE rounds (
    job              TEXT NOT NULL REFERENCES jobs (id),
    number           BIGINT NOT NULL CHECK (number >= 1),
    attempt          BIGINT NOT NULL CHECK (attempt >= 1),
    phase            TEXT NOT NULL CHECK (phase IN
        ('selecting', 'training', 'aggregating', 'committed', 'missed')),
    checkpoint_in    TEXT NOT NULL,
    roster           TEXT,               -- digest of the roster that the cohort was drawn from
    cohort_size      BIGINT NOT NULL,   -- updates that make the round complete
    cap_exponent     BIGINT NOT NULL,   -- c of the arithmetic
    opened_ms        BIGINT NOT NULL,
    training_ms      BIGINT,
    deadline_ms      BIGINT,
    closed_ms        BIGINT,
    committed_ms     BIGINT,
    checkpoint_out   TEXT,
    checkpoint_bytes BIGINT,
    examples         BIGINT,            -- sum of n over the accepted set
    statistics       TEXT,               -- JSON: sufficient statistics of the accepted set
    bytes_up         BIGINT,
    bytes_down       BIGINT,
    fold_ms          BIGINT,
    result           TEXT,               -- clock-free digest of the round
    created_at_us    BIGINT NOT NULL,
    updated_at_us    BIGINT NOT NULL,
    PRIMARY KEY (job, number, attempt)
);

CREATE TABLE tasks (
    id                TEXT PRIMARY KEY,
    job               TEXT NOT NULL REFERENCES jobs (id),
    kind              TEXT NOT NULL CHECK (kind IN ('train', 'evaluate')),
    round             BIGINT NOT NULL,
    attempt           BIGINT NOT NULL,
    client            TEXT NOT NULL,
    state             TEXT NOT NULL CHECK (state IN
        ('offered', 'leased', 'accepted', 'failed', 'lapsed', 'abandoned')),
    lease_until_ms    BIGINT NOT NULL,
    instance          TEXT,              -- the client's process that holds it
    progress          BIGINT NOT NULL,
    progress_total    BIGINT NOT NULL,
    accepted_digest   TEXT,
    accepted_examples BIGINT,
    reason            TEXT,
    created_at_us     BIGINT NOT NULL,
    updated_at_us     BIGINT NOT NULL
);
CREATE INDEX tasks_by_round ON tasks (job, round);
CREATE INDEX tasks_by_client ON tasks (client, created_at_us)
    WHERE state IN ('offered', 'leased');

CREATE TABLE updates (
    task           TEXT PRIMARY KEY REFERENCES tasks (id),
    job            TEXT NOT NULL REFERENCES jobs (id),
    kind           TEXT NOT NULL CHECK (kind IN ('train', 'evaluate')),
    round          BIGINT NOT NULL,
    client         TEXT NOT NULL,
    digest         TEXT NOT NULL,
    examples       BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    statistics     TEXT NOT NULL,   -- JSON
    position       BIGINT,         -- place in the accepted set; set once, when the round closes
    accepted_at_us BIGINT NOT NULL
);
CREATE INDEX updates_by_round ON updates (job, round, kind);

CREATE TABLE checkpoints (
    job           TEXT NOT NULL REFERENCES jobs (id),
    round         BIGINT NOT NULL,  -- the round that made it; 0 for the first
    digest        TEXT NOT NULL,
    key           TEXT NOT NULL,     -- of the blob
    bytes         BIGINT NOT NULL,
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (job, round)
);
CREATE INDEX checkpoints_by_digest ON checkpoints (digest);

CREATE TABLE events (
    job      TEXT NOT NULL REFERENCES jobs (id),
    sequence BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    round    BIGINT NOT NULL,
    attempt  BIGINT NOT NULL,
    client   TEXT,
    detail   TEXT NOT NULL,
    at_us    BIGINT NOT NULL,
    digest   TEXT NOT NULL,  -- of the previous event's digest and this event's fields
    PRIMARY KEY (job, sequence)
);
CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only';
END
$$;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_are_append_only();
CREATE TRIGGER events_are_not_truncated BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();

CREATE TABLE rejections (
    id     TEXT PRIMARY KEY,
    job    TEXT,
    round  BIGINT NOT NULL,
    client TEXT NOT NULL,
    code   TEXT NOT NULL,
    detail TEXT NOT NULL,
    at_us  BIGINT NOT NULL
);
CREATE INDEX rejections_by_job ON rejections (job, at_us);
