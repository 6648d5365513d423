"""Ways to the public, one outside system per module. Which publisher has which is `upbeat.publishers`' to say."""
