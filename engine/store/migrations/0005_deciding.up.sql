-- Groups, maintenance and dependencies; a log of every fact that is no result, so that the past can be decided again.

ALTER TABLE objects DROP CONSTRAINT objects_kind_check, ADD CONSTRAINT objects_kind_check
    CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel', 'group', 'maintenance'));

-- A subject is a beat or a group: what has a stage.
ALTER TABLE beat_states RENAME TO states;
ALTER TABLE states RENAME COLUMN beat_id TO subject_id;
ALTER INDEX beat_states_pkey RENAME TO states_pkey;
ALTER INDEX beat_states_partition RENAME TO states_partition;
ALTER TABLE transitions RENAME COLUMN beat_id TO subject_id;
ALTER INDEX transitions_beat RENAME TO transitions_subject;
ALTER TABLE pushed RENAME COLUMN beat_id TO subject_id;
ALTER TABLE signals RENAME COLUMN beat_id TO subject_id;
ALTER TABLE states ADD COLUMN bound json NOT NULL DEFAULT '{}'; -- what others make of it, as last applied
CREATE INDEX states_group ON states ((bound->>'group')) WHERE bound->>'group' IS NOT NULL;
ALTER TABLE transitions ADD COLUMN suppressed_by json;

-- Facts other than results, in one order with them: `position` is of the same sequence.
CREATE TABLE facts (
    position   bigint PRIMARY KEY DEFAULT nextval('results_position_seq'),
    subject_id uuid NOT NULL,
    at         float8 NOT NULL,                        -- server time, seconds since the epoch
    fact       json NOT NULL,
    bound      json,                                   -- of those that changed the policy: what others make of it since,
    revision   bigint,                                 -- and what is declared: this revision,
    spec       jsonb                                   -- none where another one was already stored by then
);
CREATE INDEX facts_subject ON facts (subject_id, position);
CREATE INDEX facts_at ON facts USING brin (at);
CREATE INDEX facts_pauses ON facts (subject_id, at) WHERE fact->>'type' IN ('Suspended', 'Continued');
-- When nobody evaluated a partition.
CREATE TABLE absences (
    partition   smallint NOT NULL,
    left_at     timestamptz NOT NULL,
    returned_at timestamptz NOT NULL,
    PRIMARY KEY (partition, returned_at)
);

ALTER TABLE episodes ADD COLUMN reopened smallint NOT NULL DEFAULT 0, ADD COLUMN flapping boolean NOT NULL DEFAULT false;
-- How often its episode had been opened again when it was proposed: each time has its own end.
ALTER TABLE actions ADD COLUMN reopened smallint NOT NULL DEFAULT 0;
ALTER TABLE actions ADD COLUMN of text NOT NULL DEFAULT 'severity' CHECK (of IN ('severity', 'member', 'reopened'));
DROP INDEX actions_published_once;
CREATE UNIQUE INDEX actions_published_once ON actions (episode_id, step, reopened)
    WHERE step IN ('open', 'resolve') AND status IN ('approved', 'done', 'failed');

-- What the evaluator of a partition sees of a region: beats that are bad there while the others say ok.
CREATE TABLE region_votes (
    partition smallint NOT NULL,
    region    text NOT NULL,
    beats     integer NOT NULL,                        -- that have a fresh vote there which says something of the region
    ok        integer NOT NULL,
    lonely    integer NOT NULL,                        -- of them, bad there and ok in all others
    hosts     text[] NOT NULL,                         -- of the lonely ones, some of the distinct ones
    at        timestamptz NOT NULL,
    PRIMARY KEY (partition, region)
);
-- When a region was sick, by difference to the others: its votes do not count from begin to end.
CREATE TABLE suspensions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    region   text NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    why      json NOT NULL
);
CREATE UNIQUE INDEX suspensions_now ON suspensions (region) WHERE ended_at IS NULL;

-- Replays that were asked for. A node says every now and then that it works on one; they are forgotten after an hour.
CREATE TABLE replays (
    id          uuid PRIMARY KEY,
    page_ids    uuid[] NOT NULL,                       -- who may read all of these may read it
    by          text NOT NULL,
    asked       json NOT NULL,
    plan        json NOT NULL,
    workers     smallint NOT NULL,
    status      text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    done        float8 NOT NULL DEFAULT 0,
    rows        bigint NOT NULL DEFAULT 0,
    found       json,
    error       text,
    at          timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
