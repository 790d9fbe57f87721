-- Which session stands behind a job's lease, which rounds' update
-- blobs are gone, and why a round closed. The SQLite file
-- of the same number has the same columns.

-- The key of the advisory lock that the driver's session holds: a lease whose lock nobody holds is
-- free before its time. NULL where there is none; then only time ends the lease.
ALTER TABLE jobs ADD COLUMN lease_lock BIGINT;

-- 0: the updates' blobs stand; 1: deleted; 2: and swept once more, after uploads that were under way.
ALTER TABLE rounds ADD COLUMN collected BIGINT NOT NULL DEFAULT 0;
CREATE INDEX rounds_to_collect ON rounds (updated_at_us) WHERE collected < 2;

-- Why it closed or was missed: complete, deadline, nobody_left, client_failed, job_ended.
ALTER TABLE rounds ADD COLUMN reason TEXT;
