-- What others push: pings of heartbeats and reports about any beat.

-- The secret part of a heartbeat's URL. Looked up by digest, so that no comparison tells how much of a guess is right.
CREATE TABLE ping_keys (
    beat_id uuid PRIMARY KEY REFERENCES objects (id),
    key     text NOT NULL,
    digest  bytea NOT NULL UNIQUE
);

-- Acknowledged, and not yet folded into its beat's state: the transaction that folds a row takes it away.
CREATE TABLE pushed (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition smallint NOT NULL,
    beat_id   uuid NOT NULL,
    at        float8 NOT NULL,                         -- when it came, server time, seconds since the epoch
    fact      json NOT NULL,
    body      bytea
);
CREATE INDEX pushed_partition ON pushed (partition, id);

CREATE TABLE pings (
    id      bigint PRIMARY KEY,                        -- as it was pushed
    beat_id uuid NOT NULL,
    at      timestamptz NOT NULL,
    signal  text NOT NULL,
    code    smallint,
    run     text NOT NULL,
    method  text NOT NULL,
    address text NOT NULL,
    agent   text NOT NULL,
    body    bytea,
    counted boolean NOT NULL                           -- false: the beat was paused
);
CREATE INDEX pings_beat ON pings (beat_id, at DESC, id DESC);
CREATE INDEX pings_at ON pings (at);

-- Open signals, as they are shown; what they do is in the beat's state.
CREATE TABLE signals (
    beat_id     uuid NOT NULL REFERENCES objects (id),
    source      text NOT NULL,                         -- report, or a trigger's id
    fingerprint text NOT NULL,
    severity    text NOT NULL,
    message     text NOT NULL,
    since       timestamptz NOT NULL,
    at          timestamptz NOT NULL,                  -- of the last word on it
    by          text NOT NULL,
    evidence    json,
    PRIMARY KEY (beat_id, source, fingerprint)
);

-- One row: when somebody could last take pings, and the last time nobody could.
CREATE TABLE listening (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    at         timestamptz NOT NULL DEFAULT now(),
    deaf_from  timestamptz NOT NULL DEFAULT 'epoch',
    deaf_until timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 10);
INSERT INTO listening DEFAULT VALUES;
