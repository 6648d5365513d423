"""Browsers that do journeys, each confined in a sandbox of its own. What is done there is `engine.browser.inside`."""
