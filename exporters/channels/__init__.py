"""Ways to operators, one outside system per module. Which channel has which is `upbeat.channels`' to say."""
