DROP TABLE settings, idempotency, audit, tokens, login_links, sessions, roles, users, members, leases, outbox, updates,
    actions, incidents, episodes, transitions, dead_letters, watermarks, results, beat_states, objects;
