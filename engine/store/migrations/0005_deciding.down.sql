DROP TABLE replays;
DROP TABLE suspensions, region_votes, absences, facts;
DROP INDEX actions_published_once;
DELETE FROM actions WHERE reopened > 0 AND step = 'resolve';
CREATE UNIQUE INDEX actions_published_once ON actions (episode_id, step)
    WHERE step IN ('open', 'resolve') AND status IN ('approved', 'done', 'failed');
ALTER TABLE actions DROP COLUMN reopened, DROP COLUMN of;
ALTER TABLE episodes DROP COLUMN reopened, DROP COLUMN flapping;
ALTER TABLE transitions DROP COLUMN suppressed_by;
ALTER TABLE signals RENAME COLUMN subject_id TO beat_id;
ALTER TABLE pushed RENAME COLUMN subject_id TO beat_id;
ALTER INDEX transitions_subject RENAME TO transitions_beat;
ALTER TABLE transitions RENAME COLUMN subject_id TO beat_id;
ALTER INDEX states_partition RENAME TO beat_states_partition;
ALTER INDEX states_pkey RENAME TO beat_states_pkey;
ALTER TABLE states DROP COLUMN bound;
ALTER TABLE states RENAME COLUMN subject_id TO beat_id;
ALTER TABLE states RENAME TO beat_states;
DELETE FROM beat_states WHERE beat_id IN (SELECT id FROM objects WHERE kind IN ('group', 'maintenance'));
DELETE FROM updates WHERE action_id IN (SELECT a.id FROM actions a JOIN objects o ON o.id = a.owner_id WHERE o.kind = 'group');
DELETE FROM actions WHERE owner_id IN (SELECT id FROM objects WHERE kind = 'group');
DELETE FROM incidents WHERE episode_id IN (SELECT e.id FROM episodes e JOIN objects o ON o.id = e.owner_id WHERE o.kind = 'group');
DELETE FROM episodes WHERE owner_id IN (SELECT id FROM objects WHERE kind = 'group');
DELETE FROM objects WHERE kind IN ('group', 'maintenance');
ALTER TABLE objects DROP CONSTRAINT objects_kind_check, ADD CONSTRAINT objects_kind_check
    CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel'));
