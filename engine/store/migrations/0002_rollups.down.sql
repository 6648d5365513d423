DROP TABLE rolled, rollups;
DROP TYPE arrived;
ALTER TABLE results ADD COLUMN evidence json;
UPDATE results r SET evidence = e.evidence FROM evidence e WHERE e.scheduled_at = r.scheduled_at AND e.run_id = r.run_id;
DROP TABLE evidence;
ALTER TABLE results DROP COLUMN trace_id, DROP COLUMN certificate_days;
DROP INDEX results_position;
ALTER TABLE results DROP CONSTRAINT results_pkey, ADD PRIMARY KEY (scheduled_at, run_id);
CREATE INDEX results_beat ON results (beat_id, scheduled_at DESC);
