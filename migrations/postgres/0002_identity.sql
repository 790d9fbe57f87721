-- Who may do what: one-time tokens, identities, certificates, the audit chain, and which site
-- refused which job. The SQLite file of the same number has the same tables and columns.

CREATE TABLE enrollment_tokens (
    hash          TEXT PRIMARY KEY,  -- of the secret, which is nowhere
    role          TEXT NOT NULL CHECK (role IN ('client', 'viewer', 'operator', 'admin')),
    name          TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    used_at_us    BIGINT,
    request       TEXT,              -- digest of the request that used it: the same one is answered again
    fingerprint   TEXT               -- of the certificate that it gave
);
CREATE INDEX enrollment_tokens_by_expiry ON enrollment_tokens (expires_at_us);

CREATE TABLE identities (
    role           TEXT NOT NULL CHECK (role IN ('client', 'viewer', 'operator', 'admin')),
    name           TEXT NOT NULL,
    enrolled_at_us BIGINT NOT NULL,
    revoked_at_us  BIGINT,
    revoked_by     TEXT,
    reason         TEXT,
    PRIMARY KEY (role, name)
);

-- Every certificate that is good: what is not here opens nothing, whoever signed it.
CREATE TABLE certificates (
    fingerprint   TEXT PRIMARY KEY,  -- SHA-256 of the DER
    role          TEXT NOT NULL,
    name          TEXT NOT NULL,
    der           TEXT NOT NULL,     -- hex
    issued_at_us  BIGINT NOT NULL,
    not_after_us  BIGINT NOT NULL,
    revoked_at_us BIGINT,
    FOREIGN KEY (role, name) REFERENCES identities (role, name)
);
CREATE INDEX certificates_by_identity ON certificates (role, name);
CREATE INDEX certificates_by_revocation ON certificates (revoked_at_us)
    WHERE revoked_at_us IS NOT NULL;

CREATE TABLE audit (
    sequence BIGINT PRIMARY KEY,
    at_us    BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    address  TEXT NOT NULL,
    action   TEXT NOT NULL,
    target   TEXT NOT NULL,
    outcome  TEXT NOT NULL CHECK (outcome IN ('done', 'refused')),
    detail   TEXT NOT NULL,
    digest   TEXT NOT NULL  -- of the previous line's digest and this line's fields
);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only';
END
$$;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- One row: whoever appends locks it, on whichever replica.
CREATE TABLE audit_head (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL,
    digest   TEXT NOT NULL
);

CREATE TABLE refusals (
    job    TEXT NOT NULL REFERENCES jobs (id),
    client TEXT NOT NULL,
    reason TEXT NOT NULL,  -- in the site's words
    at_us  BIGINT NOT NULL,
    PRIMARY KEY (job, client)
);

ALTER TABLE jobs ADD COLUMN submitted_by TEXT NOT NULL DEFAULT '';
