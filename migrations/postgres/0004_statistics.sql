-- Statistics tasks before round 1, and the constants that they give. The SQLite file of the same number
-- has the same columns.

ALTER TABLE tasks DROP CONSTRAINT tasks_kind_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_kind_check
    CHECK (kind IN ('train', 'evaluate', 'statistics'));
ALTER TABLE updates DROP CONSTRAINT updates_kind_check;
ALTER TABLE updates ADD CONSTRAINT updates_kind_check
    CHECK (kind IN ('train', 'evaluate', 'statistics'));

-- Job time at which no more sums are taken; set while they are collected under a deadline.
ALTER TABLE jobs ADD COLUMN statistics_deadline_ms BIGINT;
-- Digest of what the sites' sums gave; NULL before, and where nothing is asked of them.
ALTER TABLE jobs ADD COLUMN constants TEXT;

-- The newest protocol that both sides speak: jobs whose clients need a newer one do not count on it.
ALTER TABLE clients ADD COLUMN protocol BIGINT NOT NULL DEFAULT 1;
