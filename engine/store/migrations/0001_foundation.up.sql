-- The foundation: what operators declared, what was measured, what was decided, who may do what.

-- Pages, components, regions, beats and channels: documents whose shape rules/ owns.
CREATE TABLE objects (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel')),
    page_id     uuid REFERENCES objects (id),          -- null for pages and regions
    slug        text NOT NULL,
    spec        jsonb NOT NULL,
    managed_by  text NOT NULL DEFAULT 'api' CHECK (managed_by IN ('api', 'file')),
    source      text,                                  -- 'file:line' of a file-managed object
    revision    bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz
);
CREATE UNIQUE INDEX objects_slug ON objects (kind, page_id, slug) NULLS NOT DISTINCT WHERE removed_at IS NULL;
CREATE INDEX objects_page ON objects (page_id, kind, slug) WHERE removed_at IS NULL;

-- One row per beat: what is remembered between facts. `version` is the compare-and-swap.
CREATE TABLE beat_states (
    beat_id      uuid PRIMARY KEY REFERENCES objects (id),
    partition    smallint NOT NULL,
    version      bigint NOT NULL DEFAULT 0,
    revision     bigint NOT NULL DEFAULT 0,            -- of the object, as the evaluator last applied it
    measures     text NOT NULL DEFAULT '',             -- digest of what is measured, as last applied
    measured_from bigint NOT NULL DEFAULT 0,           -- the revision that digest came with: older runs do not vote
    state        json NOT NULL DEFAULT '{}',
    stage        text NOT NULL DEFAULT 'unknown',
    since        timestamptz NOT NULL DEFAULT now(),
    paused_until timestamptz,                          -- 'infinity': until somebody resumes it
    paused_by    text
) WITH (fillfactor = 60);
CREATE INDEX beat_states_partition ON beat_states (partition);

-- Raw results, one partition a day (engine.store.retention makes and drops them).
CREATE TABLE results (
    scheduled_at  timestamptz NOT NULL,
    run_id        uuid NOT NULL,
    position      bigint GENERATED ALWAYS AS IDENTITY, -- stored commit order, for exact replay
    beat_id       uuid NOT NULL,
    region        text NOT NULL,
    kind          text NOT NULL,
    verdict       text NOT NULL,
    at            timestamptz NOT NULL,                -- end of the run in server time
    seen_at       timestamptz NOT NULL,                -- when it was folded
    boot_id       uuid NOT NULL,
    seq           bigint NOT NULL,
    attempts      smallint NOT NULL,
    check_version bigint NOT NULL,
    dns real, connect real, tls real, ttfb real, transfer real, total real,
    failure_type    text,
    failure_message text,
    outcomes      json,
    evidence      json,
    request       text,
    n             smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (scheduled_at, run_id)
) PARTITION BY RANGE (scheduled_at);
CREATE INDEX results_beat ON results (beat_id, scheduled_at DESC);
CREATE TABLE results_rest PARTITION OF results DEFAULT;

-- How far each probe's batches are committed; `ahead` holds those committed out of order.
CREATE TABLE watermarks (
    boot_id   uuid NOT NULL,
    partition smallint NOT NULL,
    seq       bigint NOT NULL,
    ahead     bigint[] NOT NULL DEFAULT '{}',
    at        timestamptz NOT NULL,
    PRIMARY KEY (boot_id, partition)
);

CREATE TABLE dead_letters (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    source     text NOT NULL,
    payload    bytea NOT NULL,
    error      text NOT NULL
);

CREATE TABLE transitions (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    beat_id   uuid NOT NULL,
    at        timestamptz NOT NULL,
    was       text NOT NULL,
    stage     text NOT NULL,
    votes     json NOT NULL DEFAULT '{}'
);
CREATE INDEX transitions_beat ON transitions (beat_id, at DESC);
CREATE INDEX transitions_at ON transitions (at DESC);

CREATE TABLE episodes (
    id         uuid PRIMARY KEY,                       -- UUIDv5 of (owner, number)
    owner_id   uuid NOT NULL REFERENCES objects (id),
    number     bigint NOT NULL,
    severity   text NOT NULL,
    peak       text NOT NULL,
    opened_at  timestamptz NOT NULL,
    closed_at  timestamptz,
    cause      text,                                   -- recovered, removed
    frozen     boolean NOT NULL DEFAULT false,
    spec       jsonb NOT NULL,                         -- the owner as it was when the episode opened
    UNIQUE (owner_id, number)
);
CREATE INDEX episodes_open ON episodes (owner_id) WHERE closed_at IS NULL;
CREATE INDEX episodes_opened ON episodes (opened_at DESC, id);

CREATE TABLE incidents (
    id          uuid PRIMARY KEY,
    page_id     uuid NOT NULL REFERENCES objects (id),
    episode_id  uuid UNIQUE REFERENCES episodes (id),  -- null for manual ones; at most one per episode
    title       text NOT NULL,
    status      text NOT NULL CHECK (status IN ('investigating', 'identified', 'monitoring', 'resolved')),
    components  jsonb NOT NULL DEFAULT '{}',           -- component id -> public status now
    created_at  timestamptz NOT NULL,
    resolved_at timestamptz,
    revision    bigint NOT NULL DEFAULT 1
);
CREATE INDEX incidents_page ON incidents (page_id, created_at DESC);
CREATE INDEX incidents_open ON incidents (page_id) WHERE status <> 'resolved';

CREATE TABLE actions (
    id          uuid PRIMARY KEY,
    episode_id  uuid NOT NULL REFERENCES episodes (id),
    owner_id    uuid NOT NULL REFERENCES objects (id),
    page_id     uuid NOT NULL REFERENCES objects (id),
    step        text NOT NULL CHECK (step IN ('open', 'update', 'resolve')),
    status      text NOT NULL,
    revision    bigint NOT NULL DEFAULT 1,
    severity    text NOT NULL,
    title       text NOT NULL,
    text        text NOT NULL,
    components  jsonb NOT NULL DEFAULT '{}',           -- component id -> public status while open
    evidence    jsonb NOT NULL DEFAULT '[]',           -- per region, newest known
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    decided_at  timestamptz,
    decided_by  text,
    reason      text,
    incident_id uuid REFERENCES incidents (id)
);
CREATE INDEX actions_episode ON actions (episode_id, created_at);
CREATE INDEX actions_pending ON actions (created_at) WHERE status = 'pending';
-- One opening and one end per episode that customers are told of: the promise, held by the database.
CREATE UNIQUE INDEX actions_published_once ON actions (episode_id, step)
    WHERE step IN ('open', 'resolve') AND status IN ('approved', 'done', 'failed');

CREATE TABLE updates (
    id          uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    action_id   uuid UNIQUE REFERENCES actions (id),
    status      text NOT NULL,
    text        text NOT NULL,
    components  jsonb NOT NULL DEFAULT '{}',
    at          timestamptz NOT NULL,
    by          text NOT NULL
);
CREATE INDEX updates_incident ON updates (incident_id, at);

-- What must leave: at least once, in order per (target, line), each key once.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id    uuid NOT NULL REFERENCES objects (id),
    line         text NOT NULL,                        -- what must stay in order: the episode or beat
    key          text NOT NULL,
    notice       jsonb NOT NULL,
    status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'dead')),
    attempts     integer NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL DEFAULT now(),
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    UNIQUE (target_id, key)
);
CREATE INDEX outbox_due ON outbox (due_at, id) WHERE status = 'pending';
CREATE INDEX outbox_line ON outbox (target_id, line, id) WHERE status = 'pending';

-- Who does which work now. Only avoids double work: correctness is the compare-and-swap.
CREATE TABLE leases (
    kind    text NOT NULL,
    unit    text NOT NULL,
    holder  text NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (kind, unit)
);
CREATE TABLE members (
    kind    text NOT NULL,
    holder  text NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (kind, holder)
);

CREATE TABLE users (
    id         uuid PRIMARY KEY,
    email      text NOT NULL,
    name       text NOT NULL,
    password   text,                                   -- scrypt; null until the login link was used
    disabled   boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));
CREATE TABLE roles (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    page_id uuid REFERENCES objects (id) ON DELETE CASCADE, -- null: every page
    role    text NOT NULL CHECK (role IN ('viewer', 'reviewer', 'editor', 'admin'))
);
CREATE UNIQUE INDEX roles_one ON roles (user_id, page_id) NULLS NOT DISTINCT;
CREATE TABLE sessions (
    digest     bytea PRIMARY KEY,                      -- SHA-256 of the cookie
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE TABLE login_links (
    digest     bytea PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    lasting    boolean NOT NULL DEFAULT false         -- works more than once: the demo's
);
CREATE TABLE tokens (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    hint         text NOT NULL,                        -- last four characters
    digest       bytea NOT NULL UNIQUE,                -- SHA-256
    scope        text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    role         text NOT NULL CHECK (role IN ('viewer', 'reviewer', 'editor', 'admin')),
    page_id      uuid REFERENCES objects (id),         -- null: every page
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL,                             -- a person or 'policy'
    surface text NOT NULL,                             -- console, api, cli, file, policy
    key_id  text,                                      -- the token that was used
    verb    text NOT NULL,
    object  text NOT NULL,
    page_id uuid,
    before  jsonb,
    after   jsonb
);
CREATE INDEX audit_at ON audit (at DESC, id DESC);

CREATE TABLE idempotency (
    actor   text NOT NULL,
    key     text NOT NULL,
    digest  bytea NOT NULL,                            -- of method, path and body
    status  integer,                                   -- null while the first request is under way
    headers jsonb,
    body    bytea,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);

CREATE TABLE settings (
    key   text PRIMARY KEY,
    value jsonb NOT NULL
);
