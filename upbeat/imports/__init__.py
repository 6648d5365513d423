"""Other monitors' files turned into an `upbeat.yaml`, naming all that has no counterpart. One module per peer; none asks it."""
