"""Takes secrets out of what a browser kept: traces, HAR files, pages. Pictures are made without them, in the sandbox."""

from evaluators.observation import Artifact


def redacted(artifact: Artifact, secrets: tuple[str, ...]) -> Artifact | None:
    """Without `secrets`; None where that cannot be told, such as of an archive that is none. Takes CPU: call it in a thread."""
    raise NotImplementedError
