-- What the public page needs besides what it says: uploads, its own host name, who is let in, who is told by mail.

-- A secret of the installation: cookies and links of pages are signed with it.
INSERT INTO settings (key, value)
SELECT 'signing', to_jsonb(encode(sha256(string_agg(uuid_send(gen_random_uuid()), ''::bytea)), 'hex')) FROM generate_series(1, 4);

-- Pictures of pages as they are served: checked and made anew when they were uploaded.
CREATE TABLE assets (
    page_id    uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    name       text NOT NULL CHECK (name IN ('logo', 'logo-dark', 'favicon')),
    media_type text NOT NULL,
    body       bytea NOT NULL CHECK (length(body) <= 100000),
    digest     text NOT NULL,                          -- of the body, in the address it is served at
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (page_id, name)
);

-- Host names whose owner proved by a TXT record that they lead to a page.
CREATE TABLE hosts (
    host        text PRIMARY KEY,
    page_id     uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    verified_at timestamptz NOT NULL
);

-- Who wants to be told by the page itself.
CREATE TABLE subscribers (
    id              uuid PRIMARY KEY,
    page_id         uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('email', 'webhook', 'slack')),
    address         text NOT NULL,                     -- a mailbox, or a URL, which is a secret
    folded          text NOT NULL,                     -- the address as it is compared
    name            text NOT NULL DEFAULT '',
    components      uuid[],                            -- only of these; null: all of the page
    language        text,                              -- null: the page's first
    status          text NOT NULL CHECK (status IN ('pending', 'active', 'unsubscribed', 'bounced')),
    token           text NOT NULL UNIQUE,              -- what confirms, manages and ends it; whoever has it got our mail
    source          text NOT NULL CHECK (source IN ('page', 'admin', 'import')),
    failures        integer NOT NULL DEFAULT 0,        -- in a row, for good
    error           text,                              -- the last of them
    created_at      timestamptz NOT NULL DEFAULT now(),
    asked_at        timestamptz,                       -- when it was last mailed a link to confirm
    asked           smallint NOT NULL DEFAULT 0,       -- how often, since it last was confirmed
    confirmed_at    timestamptz,
    unsubscribed_at timestamptz,
    UNIQUE (page_id, kind, folded)
);
CREATE INDEX subscribers_told ON subscribers (page_id, id) WHERE status = 'active';
CREATE INDEX subscribers_listed ON subscribers (page_id, created_at, id);

-- One thing that subscribers are told: an update of an incident or of maintenance, or a message by hand.
CREATE TABLE broadcasts (
    id          uuid PRIMARY KEY,
    page_id     uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,  -- at home on
    pages       uuid[] NOT NULL,                       -- whose subscribers are told
    kind        text NOT NULL CHECK (kind IN ('update', 'message')),
    incident_id uuid REFERENCES incidents (id) ON DELETE CASCADE,
    update_id   uuid UNIQUE,
    components  uuid[],                                -- only who wants one of these; null: all
    item        jsonb NOT NULL,                        -- what is said: `evaluators.model.Letter` without whom it is for
    by          text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    number      bigint GENERATED ALWAYS AS IDENTITY,   -- their order
    spread_to   uuid,                                  -- the subscriber for whom the last of its letters so far was written
    spread_at   timestamptz,                           -- when all were
    finished_at timestamptz,                           -- when nothing more of it was to be sent
    outcome     jsonb                                  -- then: how many letters of each status
);
CREATE INDEX broadcasts_unspread ON broadcasts (number) WHERE spread_at IS NULL;
CREATE INDEX broadcasts_unfinished ON broadcasts (number) WHERE finished_at IS NULL;
CREATE INDEX broadcasts_listed ON broadcasts (page_id, number);

-- One of these for one subscriber, or what one mailbox alone is sent: a link to confirm, a link that lets in.
CREATE TABLE letters (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page_id       uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,  -- whose subscriber, or visitor, it is for
    kind          text NOT NULL CHECK (kind IN ('email', 'webhook', 'slack')),
    broadcast_id  uuid REFERENCES broadcasts (id) ON DELETE CASCADE,
    subscriber_id uuid REFERENCES subscribers (id) ON DELETE CASCADE,
    address       text,                                -- of a letter without a subscriber
    item          jsonb,                               -- of a letter without a broadcast
    line          text NOT NULL,                       -- the incident, or the letter itself: in order per subscriber
    status        text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'dead', 'dropped')),
    attempts      integer NOT NULL DEFAULT 0,
    due_at        timestamptz NOT NULL DEFAULT now(),
    tried_at      timestamptz,                         -- of a try that is under way, or was cut short
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    UNIQUE (broadcast_id, subscriber_id)
);
CREATE INDEX letters_due ON letters (kind, page_id, (broadcast_id IS NOT NULL), due_at, id) WHERE status = 'pending';
CREATE INDEX letters_unsent ON letters (broadcast_id) WHERE status = 'pending';
CREATE INDEX letters_subscriber ON letters (subscriber_id, line, id) WHERE status = 'pending';
CREATE INDEX letters_finished ON letters (finished_at) WHERE finished_at IS NOT NULL;
