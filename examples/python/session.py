"""Signing in, tokens that are renewed before they end, and operations over HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiohttp import ClientError
from gql import Client, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportError, TransportQueryError

from operations import REFRESH_SESSION, REGISTER, SIGN_IN

# How long before its end an access token, which lives for 15 minutes, is renewed.
MARGIN_SECONDS = 60.0
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 10.0


class Refused(Exception):
    """What the user did wrong, by its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def accepted(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload of a mutation, unless it was refused."""
    for error in payload["userErrors"]:
        raise Refused(error["code"], error["message"])
    return payload


def codes(error: TransportQueryError) -> set[str]:
    return {each.get("extensions", {}).get("code", "") for each in error.errors or []}


def worth_retrying(error: Exception) -> bool:
    """No answer came, or the server says that the same call may succeed later."""
    if isinstance(error, TransportQueryError):
        return all(each.get("extensions", {}).get("retryable") for each in error.errors or [])
    return isinstance(error, (ClientError, OSError, TransportError))


async def back_off(failures: int) -> None:
    """Longer each time, and not at the same moment as everybody else."""
    bound = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2**failures)
    await asyncio.sleep(bound * random.uniform(0.5, 1.0))


async def post(url: str, query: str, variables: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with Client(transport=AIOHTTPTransport(url=url, headers=headers)) as client:
        answer: dict[str, Any] = await client.execute(GraphQLRequest(query, variable_values=variables))
        return answer


class Session:
    """A signed-in device."""

    def __init__(
        self, url: str, user: dict[str, Any], tokens: dict[str, Any], clock: Callable[[], float] = time.time
    ) -> None:
        self.url = url
        self.user = user
        self.tokens = tokens
        self.renewed: list[Callable[[], None]] = []
        self._clock = clock
        self._renewal: asyncio.Task[None] | None = None

    @classmethod
    async def register(cls, url: str, account: dict[str, Any], clock: Callable[[], float] = time.time) -> Session:
        answer = accepted((await post(url, REGISTER, {"input": account}))["register"])
        return cls(url, answer["user"], answer["credentials"], clock)

    @classmethod
    async def sign_in(cls, url: str, account: dict[str, Any], clock: Callable[[], float] = time.time) -> Session:
        answer = accepted((await post(url, SIGN_IN, {"input": account}))["signIn"])
        return cls(url, answer["user"], answer["credentials"], clock)

    def seconds_until_renewal(self) -> float:
        ends = datetime.fromisoformat(self.tokens["accessTokenExpiresAt"].replace("Z", "+00:00"))
        return max(0.0, ends.timestamp() - MARGIN_SECONDS - self._clock())

    async def access_token(self) -> str:
        if self.seconds_until_renewal() == 0:
            await self.renew()
        return str(self.tokens["accessToken"])

    async def renew(self) -> None:
        """Exchanges the refresh token, which works once: whoever asks meanwhile waits for the same exchange."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._exchange())
            self._renewal.add_done_callback(lambda _: setattr(self, "_renewal", None))
        await asyncio.shield(self._renewal)

    async def _exchange(self) -> None:
        variables = {"refreshToken": self.tokens["refreshToken"]}
        answer = await post(self.url, REFRESH_SESSION, variables)
        self.tokens = accepted(answer["refreshSession"])["credentials"]
        for listener in self.renewed:
            listener()

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """One operation; a token that the server no longer takes is renewed, once, and the operation sent again."""
        try:
            return await post(self.url, query, variables, await self.access_token())
        except TransportQueryError as error:
            if "UNAUTHENTICATED" not in codes(error):
                raise
        await self.renew()
        return await post(self.url, query, variables, await self.access_token())
