"""Ways to subscribers of pages, one module each. Which one serves which kind of subscriber is `upbeat.letters`' to say."""
