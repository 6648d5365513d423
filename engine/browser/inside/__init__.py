"""What runs in the sandbox: a worker that does journeys. Imports nothing that knows a credential, a database or a bus."""
