"""One module per kind of beat; each turns a compiled check and a deadline into an `Attempt`."""
