"""Ways out: one outside system per module, each answering `Delivered | Retry | Rejected`."""
