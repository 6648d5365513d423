"""All SQL and migrations. Functions take a connection, so that the caller owns the transaction."""
