"""One module per kind of channel: what operators write of it. Which there are is `rules.channel`'s to say."""
