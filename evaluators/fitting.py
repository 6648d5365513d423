"""What of a step a publisher is told: its ids of components, words that it takes; and what is lost on the way. Pure."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from evaluators.model import Post
from evaluators.public import PRECEDENCE
from rules.markdown import escaped, plain
from rules.publishers.publisher import PublisherRule


def fitted(post: Post, rule: PublisherRule) -> Post:
    """`post` as the system is to be told: its ids of components, the worst where several of ours are one there, whoever named them, and its words."""
    if rule.takes_all:
        return post
    components: dict[str, str] = {}
    for path, status in (*post.components.items(), *post.others.items()):
        for there in _mapped(rule, post.page, path):
            if path in post.components or there in components:
                components[there] = max(status, components.get(there, status), key=PRECEDENCE.__getitem__)
    return replace(
        post,
        title=cut(post.title, rule.title_limit),
        text=cut(_text(post, rule), rule.text_limit),
        components=components,
        status="completed" if post.status == "cancelled" else post.status,  # nobody else tells them apart
        notify=post.notify and rule.notify and not post.is_backfilled,
    )


def tells(post: Post, rule: PublisherRule) -> bool:
    """Whether its subscribers are told of it."""
    return not post.is_backfilled if rule.is_always_told else rule.notify and fitted(post, rule).notify


def is_cut(post: Post, ours: Post, rule: PublisherRule) -> bool:
    """Whether `ours`, the fitted `post`, says less."""
    return not rule.takes_all and (ours.title != post.title or ours.text != _text(post, rule))


def lost(post: Post, ours: Post, rule: PublisherRule) -> Iterator[str]:
    """What of `post` the system is not told, or otherwise."""
    if rule.takes_all:
        return
    if ours.title != post.title:
        yield f"the title is cut to {rule.title_limit} characters"
    if ours.text != _text(post, rule):
        yield f"the text is cut to {rule.text_limit} characters"
    if post.is_markdown and not rule.shows_markdown:
        yield "it shows no Markdown: the text is sent plain"
    if rule.is_always_told and not ours.notify:
        said = "nothing is entered" if post.is_backfilled else "they are told"
        yield f"its subscribers cannot be left out: {said}"
    for path in post.components:
        if not _mapped(rule, post.page, path):
            yield f"{path} has no counterpart there"


def _text(post: Post, rule: PublisherRule) -> str:
    if post.is_markdown == rule.shows_markdown:
        return post.text
    # Plain words stay plain where Markdown is shown: a value that a sender chose is no link there.
    return plain(post.text) if post.is_markdown else escaped(post.text)


def _mapped(rule: PublisherRule, page: str, path: str) -> Sequence[str]:
    """What a component is called there; one of the publisher's own page may be written without it."""
    return rule.components.get(path) or rule.components.get(path.removeprefix(f"{page}/")) or ()


def cut(text: str, most: int) -> str:
    """At most so many characters of `text`."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
