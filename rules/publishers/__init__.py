"""One module per kind of publisher: what operators write of it. Which there are is `rules.publisher`'s to say."""
