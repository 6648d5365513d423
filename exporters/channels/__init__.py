"""Ways to operators, one outside system per module. Which channel has which is `upbeat.targets`' to say."""
