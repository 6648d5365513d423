"""PostgreSQL and NATS run by Upbeat itself, as children of ``upbeat serve``; nothing here knows a table or a subject."""
