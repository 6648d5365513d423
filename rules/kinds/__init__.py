"""The kinds of beats: one module each, with what operators write, what is compiled of it, and what it may assert."""
