DROP TABLE slack_links, slack_nonces, slack_users, slack_workspaces;
DROP TABLE targets, remotes, approvals, notes;
DELETE FROM outbox o USING objects t WHERE t.id = o.target_id AND t.kind = 'publisher';
DROP INDEX outbox_incident, outbox_line, outbox_due, outbox_dead, outbox_digest, outbox_digests;
DELETE FROM outbox WHERE status = 'dropped';
ALTER TABLE outbox DROP COLUMN incident_id, DROP COLUMN update_id, DROP COLUMN begun_at, DROP COLUMN tried_at, DROP COLUMN digest_id, DROP COLUMN waits,
    DROP CONSTRAINT outbox_status_check, ADD CONSTRAINT outbox_status_check CHECK (status IN ('pending', 'done', 'dead'));
ALTER TABLE outbox RENAME COLUMN item TO notice;
UPDATE outbox SET notice = notice - 'type';
CREATE INDEX outbox_line ON outbox (target_id, line, id) WHERE status = 'pending';
CREATE INDEX outbox_due ON outbox (due_at, id) WHERE status = 'pending';
DROP INDEX actions_created, actions_owner, actions_incident;
UPDATE actions SET incident_id = NULL WHERE episode_id IS NULL;
UPDATE updates SET action_id = NULL WHERE action_id IN (SELECT id FROM actions WHERE episode_id IS NULL);
DELETE FROM actions WHERE episode_id IS NULL;
ALTER TABLE actions DROP COLUMN asked_by, DROP COLUMN public, DROP COLUMN impact, DROP COLUMN notify, DROP COLUMN is_markdown,
    DROP COLUMN warnings, DROP COLUMN publishers, DROP COLUMN original, DROP COLUMN escalated_at, DROP COLUMN escalations;
ALTER TABLE actions ALTER COLUMN episode_id SET NOT NULL, ALTER COLUMN owner_id SET NOT NULL;
ALTER TABLE updates DROP COLUMN is_markdown, DROP COLUMN notify, DROP COLUMN edited_at, DROP COLUMN edited_by, DROP COLUMN position;
DROP INDEX incidents_window, incidents_open, incidents_posted;
UPDATE incidents SET merged_into = NULL;
DELETE FROM incidents WHERE kind = 'maintenance' OR removed_at IS NOT NULL AND episode_id IS NULL;
ALTER TABLE incidents DROP CONSTRAINT incidents_status_check,
    ADD CONSTRAINT incidents_status_check CHECK (status IN ('investigating', 'identified', 'monitoring', 'resolved'));
ALTER TABLE incidents DROP COLUMN kind, DROP COLUMN severity, DROP COLUMN impact, DROP COLUMN by, DROP COLUMN entered_at,
    DROP COLUMN acknowledged_at, DROP COLUMN is_backfilled, DROP COLUMN taken_over_by, DROP COLUMN publishers,
    DROP COLUMN window_id, DROP COLUMN starts_at, DROP COLUMN ends_at, DROP COLUMN merged_into, DROP COLUMN removed_at,
    DROP COLUMN named, DROP COLUMN posted, DROP COLUMN silence_told_at, DROP COLUMN report, DROP COLUMN report_status, DROP COLUMN report_at, DROP COLUMN report_by;
CREATE INDEX incidents_open ON incidents (page_id) WHERE status <> 'resolved';
ALTER TABLE episodes DROP COLUMN acknowledged_at, DROP COLUMN acknowledged_by, DROP COLUMN assignee,
    DROP COLUMN snoozed_until, DROP COLUMN escalated_at;
DELETE FROM objects WHERE kind = 'publisher';
ALTER TABLE objects DROP CONSTRAINT objects_kind_check, ADD CONSTRAINT objects_kind_check
    CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel', 'group', 'maintenance', 'inbox', 'trigger'));
