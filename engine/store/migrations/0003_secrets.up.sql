-- Stored secrets: written, used, and never read out again.
CREATE TABLE secrets (
    page_id    uuid REFERENCES objects (id) ON DELETE CASCADE, -- null: the installation's
    name       text NOT NULL,
    revision   bigint NOT NULL DEFAULT 1,
    key_id     text NOT NULL,                                  -- which of the keys sealed it
    sealed     bytea NOT NULL,                                 -- nonce and AES-256-GCM, bound to (page_id, name)
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL
);
CREATE UNIQUE INDEX secrets_name ON secrets (page_id, name) NULLS NOT DISTINCT;
