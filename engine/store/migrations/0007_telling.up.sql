-- What people are told: what operators do with an episode, incidents by hand, maintenance, reports, and where all of it is posted.

ALTER TABLE objects DROP CONSTRAINT objects_kind_check, ADD CONSTRAINT objects_kind_check
    CHECK (kind IN ('page', 'component', 'region', 'beat', 'channel', 'group', 'maintenance', 'inbox', 'trigger', 'publisher'));

ALTER TABLE episodes
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text,
    ADD COLUMN assignee        text,                   -- a user's e-mail
    ADD COLUMN snoozed_until   timestamptz,            -- nobody is reminded before
    ADD COLUMN escalated_at    timestamptz;
-- What people did with an episode, and said of it.
CREATE TABLE notes (
    id         uuid PRIMARY KEY,
    episode_id uuid NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
    at         timestamptz NOT NULL,
    by         text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('comment', 'acknowledged', 'unacknowledged', 'assigned', 'escalated', 'snoozed')),
    text       text NOT NULL DEFAULT ''
);
CREATE INDEX notes_episode ON notes (episode_id, at);

-- Incidents and announced maintenance: one table, one life. A removed one is kept, and shown to nobody.
ALTER TABLE incidents DROP CONSTRAINT incidents_status_check;
ALTER TABLE incidents
    ADD CONSTRAINT incidents_status_check CHECK (status IN ('investigating', 'identified', 'monitoring', 'resolved',
        'scheduled', 'in_progress', 'verifying', 'completed', 'cancelled')),
    ADD COLUMN kind            text NOT NULL DEFAULT 'incident' CHECK (kind IN ('incident', 'maintenance')),
    ADD COLUMN severity        text CHECK (severity IN ('warning', 'critical')),  -- of its episode when last told
    ADD COLUMN impact          text CHECK (impact IN ('none', 'minor', 'major', 'critical')), -- set by a person
    ADD COLUMN by              text NOT NULL DEFAULT 'policy',
    ADD COLUMN entered_at      timestamptz NOT NULL DEFAULT now(),  -- created_at is when it began
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN is_backfilled   boolean NOT NULL DEFAULT false,
    ADD COLUMN taken_over_by   text,                   -- a person: its episode says nothing more in public
    ADD COLUMN publishers      uuid[],                 -- it goes to; null: all of its page
    ADD COLUMN window_id       uuid REFERENCES objects (id),        -- of maintenance
    ADD COLUMN starts_at       timestamptz,
    ADD COLUMN ends_at         timestamptz,
    ADD COLUMN merged_into     uuid REFERENCES incidents (id),
    ADD COLUMN named           uuid[] NOT NULL DEFAULT '{}',  -- every component that it ever said anything of
    ADD COLUMN posted          jsonb,                  -- what its newest step tells publishers of components, until that is looked at again
    ADD COLUMN removed_at      timestamptz,
    ADD COLUMN silence_told_at timestamptz,            -- when operators were last told that customers hear nothing
    ADD COLUMN report          text,                   -- written after it was resolved
    ADD COLUMN report_status   text CHECK (report_status IN ('draft', 'published')),
    ADD COLUMN report_at       timestamptz,            -- when it was published
    ADD COLUMN report_by       text;
UPDATE incidents i SET named = ARRAY(SELECT DISTINCT k::uuid FROM updates u, jsonb_object_keys(u.components) AS k
    WHERE u.incident_id = i.id);
CREATE INDEX incidents_posted ON incidents (id) WHERE posted IS NOT NULL;
CREATE UNIQUE INDEX incidents_window ON incidents (window_id, starts_at) WHERE window_id IS NOT NULL;
DROP INDEX incidents_open;
CREATE INDEX incidents_open ON incidents (page_id) WHERE status NOT IN ('resolved', 'completed', 'cancelled') AND removed_at IS NULL;
ALTER TABLE updates
    ADD COLUMN is_markdown boolean NOT NULL DEFAULT false,
    ADD COLUMN notify      boolean NOT NULL DEFAULT true,
    ADD COLUMN edited_at   timestamptz,
    ADD COLUMN edited_by   text;

-- Actions: also of incidents by hand, which have no episode.
ALTER TABLE actions ALTER COLUMN episode_id DROP NOT NULL, ALTER COLUMN owner_id DROP NOT NULL;
ALTER TABLE actions
    ADD COLUMN asked_by     text,                      -- who wrote it, where no beat or group did
    ADD COLUMN public       text,                      -- status of the incident that is wanted
    ADD COLUMN impact       text CHECK (impact IN ('none', 'minor', 'major', 'critical')),
    ADD COLUMN notify       boolean NOT NULL DEFAULT true,
    ADD COLUMN is_markdown  boolean NOT NULL DEFAULT false,
    ADD COLUMN warnings     jsonb NOT NULL DEFAULT '[]',  -- of its words: a template that failed
    ADD COLUMN publishers   uuid[],                    -- it may go to; null: all
    ADD COLUMN original     jsonb,                     -- title, text and components before people changed them
    ADD COLUMN escalated_at timestamptz,               -- when operators were last told that it still waits
    ADD COLUMN escalations  smallint NOT NULL DEFAULT 0;
CREATE TABLE approvals (
    action_id uuid NOT NULL REFERENCES actions (id) ON DELETE CASCADE,
    by        text NOT NULL,
    revision  bigint NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (action_id, by)
);

-- The outbox: notices for channels, and steps of incidents for publishers.
ALTER TABLE outbox RENAME COLUMN notice TO item;
UPDATE outbox SET item = item || '{"type": "notice"}';
ALTER TABLE outbox
    ADD COLUMN incident_id uuid REFERENCES incidents (id),
    ADD COLUMN update_id   uuid,
    ADD COLUMN begun_at    timestamptz,                -- of the first try: one that was cut short may have arrived
    ADD COLUMN waits       text CHECK (waits IN ('after', 'hours')), -- until then it may be taken back
    ADD COLUMN digest_id   bigint,                     -- the notice that says it together with others
    DROP CONSTRAINT outbox_status_check,
    ADD CONSTRAINT outbox_status_check CHECK (status IN ('pending', 'done', 'dead', 'dropped'));
DROP INDEX outbox_line, outbox_due;
CREATE INDEX outbox_due ON outbox (target_id, due_at, id) WHERE status = 'pending';
CREATE INDEX outbox_line ON outbox (target_id, line, id) WHERE status IN ('pending', 'dead');
CREATE INDEX outbox_said ON outbox (line, id);
CREATE INDEX outbox_digest ON outbox (digest_id) WHERE digest_id IS NOT NULL;
CREATE INDEX outbox_digests ON outbox (id) WHERE item->>'told' = 'digest';
CREATE INDEX outbox_incident ON outbox (incident_id, id) WHERE incident_id IS NOT NULL;
-- What is known of a line's counterpart elsewhere: the thread of an episode, the incident on another status page.
CREATE TABLE remotes (
    target_id  uuid NOT NULL REFERENCES objects (id),
    line       text NOT NULL,
    remote     jsonb NOT NULL DEFAULT '{}',
    gone_at    timestamptz,                            -- somebody removed it by hand
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, line)
);
-- How channels and publishers are doing.
CREATE TABLE targets (
    target_id   uuid PRIMARY KEY REFERENCES objects (id),
    ok_at       timestamptz,
    failed_at   timestamptz,
    error       text,
    failures    integer NOT NULL DEFAULT 0,            -- in a row
    stopped_at  timestamptz                            -- it said that it is gone for good (410)
);

-- Slack. The token of a workspace's bot is a secret of the installation, `slack.<team>`.
CREATE TABLE slack_workspaces (
    team_id      text PRIMARY KEY,
    name         text NOT NULL,
    alias        text UNIQUE,                          -- its name as channels may write it
    connected_at timestamptz NOT NULL DEFAULT now(),
    connected_by text NOT NULL
);
CREATE TABLE slack_users (
    team_id    text NOT NULL REFERENCES slack_workspaces ON DELETE CASCADE,
    slack_user text NOT NULL,
    name       text NOT NULL,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    linked_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, slack_user)
);
-- What works once, or was taken once: states of OAuth, links for users, requests by their ids.
CREATE TABLE slack_nonces (
    digest     bytea PRIMARY KEY,
    about      jsonb NOT NULL DEFAULT '{}',
    expires_at timestamptz NOT NULL
);
CREATE INDEX slack_nonces_expiry ON slack_nonces (expires_at);
-- In which channels an incident is spoken of, besides the one that announces.
CREATE TABLE slack_links (
    incident_id uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    team_id     text NOT NULL REFERENCES slack_workspaces ON DELETE CASCADE,
    channel     text NOT NULL,
    PRIMARY KEY (incident_id, team_id, channel)
);
CREATE INDEX slack_links_channel ON slack_links (team_id, channel);
