"""A letter as it would be mailed, for who writes it. Nothing is sent."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from evaluators.model import Envelope
from exporters.letters.mail import composed


def preview(envelope: Envelope) -> dict[str, str]:
    """Its `subject`, `text` and `html`: read from the very message."""
    message = message_from_bytes(
        composed(envelope, envelope.sender or "status@localhost"), EmailMessage, policy=default
    )
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return {"subject": str(message["Subject"]), "text": text.get_content(), "html": html.get_content()}
