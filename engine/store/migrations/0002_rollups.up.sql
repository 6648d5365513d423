-- Summaries that outlive raw results, evidence apart from them, and one index on results where there were two.

-- A run belongs to one beat, so the key may begin with it: the same index then serves every listing.
ALTER TABLE results DROP CONSTRAINT results_pkey, ADD PRIMARY KEY (beat_id, scheduled_at, run_id);
DROP INDEX results_beat;
-- What was stored since the last roll-up: rows lie in this order, so a few bytes per 32 pages do.
CREATE INDEX results_position ON results USING brin (position) WITH (pages_per_range = 32);
ALTER TABLE results ADD COLUMN trace_id uuid, ADD COLUMN certificate_days real;

-- As results come from evaluators: times in seconds since the epoch. Its order is known to engine.store.results.
CREATE TYPE arrived AS (
    scheduled_at float8, run_id uuid, beat_id uuid, region text, kind text, verdict text, at float8, seen_at float8,
    boot_id uuid, seq bigint, attempts smallint, check_version bigint,
    dns real, connect real, tls real, ttfb real, transfer real, total real,
    failure_type text, failure_message text, outcomes text, request text, n smallint, trace_id uuid, certificate_days real
);

-- What was kept of runs that failed, or needed more than one attempt. One partition a day, dropped before those of results.
CREATE TABLE evidence (
    scheduled_at timestamptz NOT NULL,
    run_id       uuid NOT NULL,
    evidence     json,
    tried        json                                  -- the attempts before the last one
) PARTITION BY RANGE (scheduled_at);
CREATE INDEX evidence_run ON evidence (scheduled_at, run_id);
CREATE TABLE evidence_rest PARTITION OF evidence DEFAULT;
INSERT INTO evidence SELECT scheduled_at, run_id, evidence FROM results WHERE evidence IS NOT NULL;
ALTER TABLE results DROP COLUMN evidence;

-- Scheduled runs of a beat in a region, by the hour and by the day (UTC); see engine.store.rollups.
CREATE TABLE rollups (
    beat_id      uuid NOT NULL,
    hours        smallint NOT NULL CHECK (hours IN (1, 24)),
    start        timestamptz NOT NULL,
    region       text NOT NULL,
    ok           integer NOT NULL,
    warning      integer NOT NULL,
    critical     integer NOT NULL,
    error        integer NOT NULL,
    last_at      timestamptz NOT NULL,                 -- end of the newest run, in server time
    last_verdict text NOT NULL,
    failures     jsonb NOT NULL,                       -- error type -> runs
    buckets      smallint[] NOT NULL,                  -- a quantile sketch of each phase: evaluators.sketch
    counts       integer[] NOT NULL,
    PRIMARY KEY (beat_id, hours, start, region)
) WITH (fillfactor = 80, toast_tuple_target = 256);
-- Small numbers compress well, and a look at them must not go through another table.
ALTER TABLE rollups ALTER buckets SET STORAGE MAIN, ALTER counts SET STORAGE MAIN;
CREATE INDEX rollups_start ON rollups (hours, start);

-- Up to which stored row everything is rolled up, and when that was.
CREATE TABLE rolled (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL,
    at       timestamptz NOT NULL
);
INSERT INTO rolled (position, at) VALUES (0, '-infinity');
