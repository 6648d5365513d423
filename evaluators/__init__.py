"""Everything that decides, as pure total functions over frozen values. No clock, no waiting, no randomness."""
