-- Files kept of browser runs. Each content is stored once; a run's rows name it.

CREATE TABLE artifacts (
    sha256 bytea PRIMARY KEY CHECK (length(sha256) = 32),
    data   bytea NOT NULL CHECK (length(data) <= 8 << 20)
);
ALTER TABLE artifacts ALTER data SET STORAGE EXTERNAL;  -- pictures and archives are compressed already

CREATE TABLE run_artifacts (
    run_id       uuid NOT NULL,
    scheduled_at timestamptz NOT NULL,
    name         text NOT NULL,
    beat_id      uuid NOT NULL,
    type         text NOT NULL,
    sha256       bytea NOT NULL REFERENCES artifacts,
    PRIMARY KEY (run_id, scheduled_at, name)
);
CREATE INDEX run_artifacts_by_time ON run_artifacts (scheduled_at, run_id);
CREATE INDEX run_artifacts_by_content ON run_artifacts (sha256);
