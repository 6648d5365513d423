"""The demo: a small shop on local ports that fails on cue, watched by the real server. It fakes nothing of Upbeat."""
