"""How a request says who asks: basic, bearer, OAuth 2 client credentials. Fetches no token."""

import base64
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.secret import Sources, expand
from rules.shape import Rule, expect_one
from rules.target import RequestUrl, Target, target_of

Credential = Annotated[str, StringConstraints(min_length=1, max_length=8000, pattern=r"^[^\r\n\x00]*$")]


class Basic(Rule):
    """A name and a password (RFC 7617)."""

    username: Annotated[str, StringConstraints(max_length=500, pattern=r"^[^:\r\n\x00]*$")] = Field(
        description="Without a colon."
    )
    password: Credential = Field(description="Best a reference such as `${env:NAME}`.")


class OAuth2(Rule):
    """A token for client credentials (RFC 6749, 4.4): fetched once, kept in memory until it expires."""

    token_url: RequestUrl = Field(description="Where tokens are given out.")
    client_id: Credential = Field(description="Who asks.")
    client_secret: Credential = Field(description="Best a reference such as `${env:NAME}`.")
    scope: Annotated[str, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="Scopes, with spaces between them."
    )
    audience: Annotated[str, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="What the token is for, where the server asks for it."
    )
    send: Literal["header", "body"] = Field(
        default="header", description="Where the client's name and secret are put."
    )


class Auth(Rule):
    """One way of saying who asks; left behind when a redirect leads to another origin."""

    basic: Basic | None = Field(default=None, description="Name and password.")
    bearer: Credential | None = Field(default=None, description="A token; best a reference.")
    oauth2: OAuth2 | None = Field(default=None, description="A token that is fetched for client credentials.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        names = ("basic", "bearer", "oauth2")
        expect_one("auth", names, [name for name in names if getattr(self, name) is not None])
        return self


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Compiled `oauth2`; what tokens are kept by."""

    target: Target
    client_id: str
    client_secret: str
    scope: str
    audience: str
    in_body: bool


def compile_auth(auth: Auth, sources: Sources) -> tuple[str | None, TokenRequest | None, tuple[str, ...]]:
    """The value of Authorization, or how to get its token; and what of it is secret.

    Raises `rules.secret.UnsetReferenceError`, or `ValueError` for a value that is not allowed.
    """
    if auth.basic is not None:
        pair = f"{expand(auth.basic.username, sources)}:{expand(auth.basic.password, sources)}"
        encoded = base64.b64encode(pair.encode()).decode()
        return f"Basic {encoded}", None, (encoded, pair.partition(":")[2])
    if auth.oauth2 is not None:
        one = auth.oauth2
        secret = expand(one.client_secret, sources)
        request = TokenRequest(
            target_of(one.token_url, sources),
            expand(one.client_id, sources),
            secret,
            expand(one.scope or "", sources),
            expand(one.audience or "", sources),
            one.send == "body",
        )
        return None, request, (secret,)
    token = expand(auth.bearer or "", sources)
    return f"Bearer {token}", None, (token,)
