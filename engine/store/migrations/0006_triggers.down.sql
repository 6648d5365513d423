DELETE FROM jobs WHERE kind = 'preview';
ALTER TABLE jobs DROP COLUMN kind, DROP COLUMN is_cut;
ALTER TABLE jobs RENAME TO replays;
DROP INDEX actions_triggers;
ALTER TABLE actions DROP COLUMN triggers, DROP COLUMN edited;
DROP INDEX objects_judging;
DROP TABLE deafness, trigger_beats, trigger_keys, trigger_states, judging, judged, arrivals, deliveries, events, inbox_tokens, versions;
DELETE FROM objects WHERE kind IN ('inbox', 'trigger');
ALTER TABLE objects DROP CONSTRAINT objects_kind_check, ADD CONSTRAINT objects_kind_check
    CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel', 'group', 'maintenance'));
