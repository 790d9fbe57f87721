-- What became of each receipt. The SQLite file of the same number has the same column.

-- folded, pooled, scored, job_cancelled, job_failed, diverged; NULL while its round or job goes on.
ALTER TABLE tasks ADD COLUMN outcome TEXT;

UPDATE tasks SET outcome = CASE
    WHEN kind = 'train' AND EXISTS (SELECT 1 FROM rounds r WHERE r.job = tasks.job
        AND r.number = tasks.round AND r.phase = 'committed') THEN 'folded'
    WHEN kind = 'statistics' AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = tasks.job
        AND j.constants IS NOT NULL) THEN 'pooled'
    ELSE (SELECT CASE
        WHEN j.status = 'completed' THEN 'scored'
        WHEN j.status = 'cancelled' THEN 'job_cancelled'
        WHEN j.status = 'failed' AND j.reason LIKE 'diverged:%' THEN 'diverged'
        WHEN j.status = 'failed' THEN 'job_failed'
        END FROM jobs j WHERE j.id = tasks.job)
    END
    WHERE accepted_digest IS NOT NULL;
