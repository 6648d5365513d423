-- Files kept of browser runs. Each content is stored once; a run's row names it.

CREATE TABLE artifacts (
    sha256     bytea PRIMARY KEY CHECK (length(sha256) = 32),
    data       bytea NOT NULL CHECK (length(data) <= 8 << 20),
    kept_at    timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE artifacts ALTER COLUMN data SET STORAGE EXTERNAL;  -- pictures and archives do not compress

CREATE TABLE run_artifacts (
    run_id       uuid NOT NULL,
    name         text NOT NULL,
    beat_id      uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    scheduled_at timestamptz NOT NULL,
    type         text NOT NULL,
    sha256       bytea NOT NULL REFERENCES artifacts (sha256),
    PRIMARY KEY (run_id, name)
);
CREATE INDEX run_artifacts_by_time ON run_artifacts (scheduled_at);
CREATE INDEX run_artifacts_by_content ON run_artifacts (sha256);
