"""TorchServe's tokens, for whoever speaks to it: taken from its key file, renewed before and after they have expired.

``GET /token`` with the API key answers nothing: TorchServe writes the new token into its key file.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import httpx

TokenKind = Literal["inference", "management"]

RENEW_BEFORE = timedelta(seconds=20)
"""A token that expires within this time is renewed before it is used."""
TOKENS_TRIED = 3
"""Another client of the same TorchServe may renew the token between our renewal and our request."""
RENEWAL_LIMIT = 10.0
"""Seconds."""
CONNECTED = "connection.connect_tcp.complete"
"""httpx's name, in a request's ``trace`` extension, for the moment at which a connection is there and nothing sent."""


@dataclass(frozen=True)
class Token:
    """A key of the key file and when it expires; the API key, which renews the others, never does."""

    key: str
    expires: datetime | None


class TokenAuth(httpx.Auth):
    """Gives each request its token. Nothing goes out over a new connection before it is known who listens there.

    Args:
        kind: of the token.
        key_of: what the key file holds now, by kind; raises where it cannot be read.
        renewal_url: answers a request with the API key by writing a new token of this kind into the key file.
        require_ours: raises where another program than our TorchServe listens at a URL.
    """

    def __init__(
        self,
        kind: TokenKind,
        key_of: Callable[[TokenKind | Literal["API"]], Token],
        renewal_url: str,
        require_ours: Callable[[str], None],
    ) -> None:
        self._kind, self._key_of, self._renewal_url, self._require_ours = kind, key_of, renewal_url, require_ours
        self._token: Token | None = None
        self._renewing = asyncio.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        refused = None
        for _ in range(TOKENS_TRIED):
            if (token := self._known(refused)) is None:
                yield _signed(self._renewal(), self._key_of("API"), self._look)
                token = self._token = self._key_of(self._kind)
            response = yield _signed(request, token, self._look)
            if response.status_code == 400:
                response.read()
            if not refused_token(response):
                return
            refused = token.key

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        refused = None
        for _ in range(TOKENS_TRIED):
            async with self._renewing:  # many requests at once make one renewal
                if (token := self._known(refused)) is None:
                    yield _signed(self._renewal(), self._key_of("API"), self._look_async)
                    token = self._token = self._key_of(self._kind)
            response = yield _signed(request, token, self._look_async)
            if response.status_code == 400:
                await response.aread()
            if not refused_token(response):
                return
            refused = token.key

    def _known(self, refused: str | None) -> Token | None:
        """The token in memory, else the key file's, where one of them may be used."""
        if not _usable(self._token, refused):
            self._token = self._key_of(self._kind)
        return self._token if _usable(self._token, refused) else None

    def _renewal(self) -> httpx.Request:
        limit = httpx.Timeout(RENEWAL_LIMIT).as_dict()
        return httpx.Request("GET", self._renewal_url, extensions={"timeout": limit})

    def _look(self, url: str, event: str, _: object) -> None:
        if event == CONNECTED:
            self._require_ours(url)

    async def _look_async(self, url: str, event: str, about: dict[str, Any]) -> None:
        if event == CONNECTED:
            try:
                await asyncio.to_thread(self._require_ours, url)
            except BaseException:
                await about["return_value"].aclose()  # nothing else closes it
                raise


def refused_token(response: httpx.Response) -> bool:
    """TorchServe says 400, not 401, to a missing, wrong or expired token."""
    return response.status_code == 400 and "InvalidKeyException" in response.text


def _signed(request: httpx.Request, token: Token, look: Callable[..., object]) -> httpx.Request:
    """``look`` is called with the URL at each step of the request's way."""
    request.headers["Authorization"] = f"Bearer {token.key}"
    request.extensions["trace"] = partial(look, str(request.url))
    return request


def _usable(token: Token | None, refused: str | None) -> bool:
    if token is None or token.key == refused:
        return False
    return token.expires is None or token.expires - datetime.now(UTC) > RENEW_BEFORE
