"""Ways in: REST, console, status page. It reads and writes the store; it never probes, decides or sends."""
