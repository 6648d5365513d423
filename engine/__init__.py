"""The machinery: scheduler, probes, store, bus, leases, delivery. It observes, asks `evaluators` to decide, remembers, acts."""
