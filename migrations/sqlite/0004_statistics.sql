-- Statistics tasks before round 1, and the constants that they give. The Postgres file of the same number
-- has the same columns.

-- SQLite cannot change a CHECK: both tables are made anew, copied and renamed. The references follow
-- the renaming.
CREATE TABLE tasks_new (
    id                TEXT PRIMARY KEY,
    job               TEXT NOT NULL REFERENCES jobs (id),
    kind              TEXT NOT NULL CHECK (kind IN ('train', 'evaluate', 'statistics')),
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
INSERT INTO tasks_new (id, job, kind, round, attempt, client, state, lease_until_ms, instance,
    progress, progress_total, accepted_digest, accepted_examples, reason, created_at_us, updated_at_us)
    SELECT id, job, kind, round, attempt, client, state, lease_until_ms, instance,
    progress, progress_total, accepted_digest, accepted_examples, reason, created_at_us, updated_at_us
    FROM tasks;

CREATE TABLE updates_new (
    task           TEXT PRIMARY KEY REFERENCES tasks_new (id),
    job            TEXT NOT NULL REFERENCES jobs (id),
    kind           TEXT NOT NULL CHECK (kind IN ('train', 'evaluate', 'statistics')),
    round          INTEGER NOT NULL,
    client         TEXT NOT NULL,
    digest         TEXT NOT NULL,
    examples       INTEGER NOT NULL,
    bytes          INTEGER NOT NULL,
    statistics     TEXT NOT NULL,   -- JSON
    position       INTEGER,         -- place in the accepted set; set once, when the round closes
    accepted_at_us INTEGER NOT NULL
) STRICT;
INSERT INTO updates_new (task, job, kind, round, client, digest, examples, bytes, statistics, position,
    accepted_at_us)
    SELECT task, job, kind, round, client, digest, examples, bytes, statistics, position,
    accepted_at_us FROM updates;

DROP TABLE updates;
DROP TABLE tasks;
ALTER TABLE tasks_new RENAME TO tasks;
ALTER TABLE updates_new RENAME TO updates;
CREATE INDEX tasks_by_round ON tasks (job, round);
CREATE INDEX tasks_by_client ON tasks (client, created_at_us)
    WHERE state IN ('offered', 'leased');
CREATE INDEX updates_by_round ON updates (job, round, kind);

-- Job time at which no more sums are taken; set while they are collected under a deadline.
ALTER TABLE jobs ADD COLUMN statistics_deadline_ms INTEGER;
-- Digest of what the sites' sums gave; NULL before, and where nothing is asked of them.
ALTER TABLE jobs ADD COLUMN constants TEXT;

-- The newest protocol that both sides speak: jobs whose clients need a newer one do not count on it.
ALTER TABLE clients ADD COLUMN protocol INTEGER NOT NULL DEFAULT 1;
