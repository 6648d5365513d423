-- Inboxes and triggers: what other systems post, and what is made of it.

ALTER TABLE objects DROP CONSTRAINT objects_kind_check, ADD CONSTRAINT objects_kind_check
    CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel', 'group', 'maintenance', 'inbox', 'trigger'));

-- Every version of a trigger that there ever was.
CREATE TABLE versions (
    object_id uuid NOT NULL REFERENCES objects (id),
    revision  bigint NOT NULL,
    spec      jsonb NOT NULL,
    by        text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (object_id, revision)
);

-- What opens an inbox. One is active; while it is rotated, the one before is valid until it expires.
CREATE TABLE inbox_tokens (
    digest       bytea PRIMARY KEY,                    -- SHA-256
    id           uuid NOT NULL UNIQUE,
    inbox_id     uuid NOT NULL REFERENCES objects (id),
    hint         text NOT NULL,                        -- last four characters
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz
);
CREATE INDEX inbox_tokens_inbox ON inbox_tokens (inbox_id);

-- Deliveries as they came, by the day they came on. What they say is read when they are judged.
CREATE TABLE events (
    id          uuid NOT NULL,                         -- UUIDv7
    inbox_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,
    address     text NOT NULL,
    headers     json NOT NULL,                         -- pairs, without what opens the inbox
    query       text NOT NULL,
    body        bytea NOT NULL,
    delivery    text,                                  -- its name, as the sender says
    is_signed   boolean NOT NULL DEFAULT false,        -- and the signature was good
    tested_by   text                                   -- who fired it by hand
) PARTITION BY RANGE (received_at);
CREATE INDEX events_inbox ON events (inbox_id, received_at DESC, id DESC);
CREATE INDEX events_id ON events (id);
CREATE TABLE events_rest PARTITION OF events DEFAULT;

-- Names of deliveries, and digests of bodies where an inbox wants that, so that a repeat is known.
CREATE TABLE deliveries (
    inbox_id    uuid NOT NULL,
    key         bytea NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,                  -- of the event, which says where it is
    until       timestamptz NOT NULL,                  -- and not a repeat any more
    PRIMARY KEY (inbox_id, key)
);
CREATE INDEX deliveries_until ON deliveries USING brin (until);

-- Acknowledged, and not yet judged: the transaction that judges a row takes it away.
CREATE TABLE arrivals (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition   smallint NOT NULL,
    inbox_id    uuid NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,                  -- of the event, which says where it is
    at          timestamptz NOT NULL,                  -- of this delivery of it
    is_repeat   boolean NOT NULL DEFAULT false         -- the same body again: seen, but no event
);
CREATE INDEX arrivals_partition ON arrivals (partition, id);

-- How far the inboxes of a partition are judged: who does not know the version does not know what was judged before.
CREATE TABLE judging (
    partition   smallint PRIMARY KEY,
    version     bigint NOT NULL DEFAULT 0,
    at          float8 NOT NULL DEFAULT 0              -- the latest that triggers took for now; it never goes back
);
INSERT INTO judging (partition) SELECT generate_series(0, 7);

-- In which order, and as of when, arrivals were judged, and what the triggers of their inbox made of them.
CREATE TABLE judged (
    position    bigint GENERATED ALWAYS AS IDENTITY,
    inbox_id    uuid NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,
    at          float8 NOT NULL,                       -- time as the triggers took it, seconds since the epoch
    is_repeat   boolean NOT NULL,
    verdict     text NOT NULL,                         -- the worst of its outcomes, for filters
    outcomes    json NOT NULL                          -- by trigger, but for those that it did not match
) PARTITION BY RANGE (received_at);
CREATE INDEX judged_event ON judged (event_id);
CREATE INDEX judged_inbox ON judged (inbox_id, position);
CREATE TABLE judged_rest PARTITION OF judged DEFAULT;

-- What a trigger remembers; saved by compare-and-swap on the version.
CREATE TABLE trigger_states (
    trigger_id  uuid PRIMARY KEY REFERENCES objects (id),
    inbox_id    uuid,                                  -- whose events it was last folded over; null: of none yet, or none any more
    target_id   uuid,                                  -- the beat or group that its signals are about
    version     bigint NOT NULL DEFAULT 0,
    revision    bigint NOT NULL DEFAULT 0,             -- of the rule it was last brought to
    identity    text NOT NULL DEFAULT '',              -- digest of what of that rule its keys mean something by
    head        json NOT NULL DEFAULT '{}',
    tally       json NOT NULL DEFAULT '{}',            -- what it did since it has this rule
    promoted    json                                   -- who, when, on which record, and of which rule
);
CREATE TABLE trigger_keys (
    trigger_id  uuid NOT NULL REFERENCES objects (id),
    fingerprint text NOT NULL,
    state       json NOT NULL,
    target_id   uuid,                                  -- of its open signal, where that is a beat of its own
    PRIMARY KEY (trigger_id, fingerprint)
);
-- External beats that were made for one fingerprint each.
CREATE TABLE trigger_beats (
    trigger_id  uuid NOT NULL REFERENCES objects (id),
    fingerprint text NOT NULL,
    beat_id     uuid NOT NULL REFERENCES objects (id),
    PRIMARY KEY (trigger_id, fingerprint)
);
-- Their sum tells whether anything that judges was changed.
CREATE INDEX objects_judging ON objects (revision) WHERE kind IN ('inbox', 'trigger');

-- When nobody could take what others post: nothing that was not heard then was missing.
CREATE TABLE deafness (
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL PRIMARY KEY
);

-- Whose signals an action rests on.
ALTER TABLE actions ADD COLUMN triggers uuid[] NOT NULL DEFAULT '{}', ADD COLUMN edited boolean NOT NULL DEFAULT false;
CREATE INDEX actions_triggers ON actions USING gin (triggers) WHERE triggers <> '{}';

-- Replays and previews are asked for, run and forgotten alike.
ALTER TABLE replays RENAME TO jobs;
ALTER TABLE jobs ADD COLUMN kind text NOT NULL DEFAULT 'replay' CHECK (kind IN ('replay', 'preview')),
    ADD COLUMN is_cut boolean NOT NULL DEFAULT false;  -- its time was over: found is what it had by then
