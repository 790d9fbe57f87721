-- What the rule that says when a job has diverged goes by, what a job's driver waits for, and why tasks
-- fail, as stable words. The SQLite file of the same number has the same columns.

-- JSON: the norms and losses of committed rounds, as far as the rule looks back.
ALTER TABLE jobs ADD COLUMN course TEXT NOT NULL DEFAULT '{}';
-- A sentence while a fold cannot be done yet; cleared by the job's next step.
ALTER TABLE jobs ADD COLUMN waits_for TEXT;

-- The norm of the mean update, in units of 2^-32, and the median client's loss, in units of 2^-20.
ALTER TABLE rounds ADD COLUMN update_norm BIGINT;
ALTER TABLE rounds ADD COLUMN median_loss BIGINT;

-- Why it failed: unable, diverged, refused_by_site, revoked, or why its update was refused.
ALTER TABLE tasks ADD COLUMN code TEXT;
