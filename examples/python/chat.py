"""A chat: lists, sends that are shown before they are acked, and events that go on where they were cut."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from aiohttp import ClientSession
from gql import Client, GraphQLRequest
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport

from operations import CONVERSATIONS, EVENTS, HISTORY, RENEW_CONNECTION, SEND
from session import Session, accepted, back_off, worth_retrying

PING_SECONDS = 20


class Chat:
    def __init__(self, session: Session, conversations_a_page: int = 20, messages_a_page: int = 50) -> None:
        self.conversations: list[dict[str, Any]] = []
        self._session = session
        self._sizes = (conversations_a_page, messages_a_page)
        self._list_page: dict[str, Any] = {}
        # By conversation: messages by their `seq`, and where the history goes on.
        self._messages: dict[str, dict[int, dict[str, Any]]] = {}
        self._pages: dict[str, dict[str, Any]] = {}
        # What is not acked, by the key that it keeps for every try.
        self._outbox: dict[str, tuple[str, str]] = {}
        self._last_send: asyncio.Task[None] | None = None
        self._cursor: str | None = None
        self._opened = asyncio.Event()
        self._live: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Live first, lists after `StreamOpened`: nothing falls between the two."""
        self._live = asyncio.create_task(self._follow())
        await self._opened.wait()
        await self._fetch_conversations(None)

    async def close(self) -> None:
        if self._live:
            self._live.cancel()
            await asyncio.gather(self._live, return_exceptions=True)

    # ------------------------------------------------------------ lists

    async def more_conversations(self) -> bool:
        if not self._list_page.get("hasNextPage"):
            return False
        await self._fetch_conversations(self._list_page["endCursor"])
        return True

    async def _fetch_conversations(self, after: str | None) -> None:
        page = (await self._session.ask(CONVERSATIONS, first=self._sizes[0], after=after))["conversations"]
        known = {conversation["id"] for conversation in self.conversations}
        self.conversations += [conversation for conversation in page["nodes"] if conversation["id"] not in known]
        self._list_page = page["pageInfo"]

    async def open(self, conversation_id: str) -> None:
        await self._fetch_history(conversation_id, None)

    async def older(self, conversation_id: str) -> bool:
        page = self._pages[conversation_id]
        if not page["hasPreviousPage"]:
            return False
        await self._fetch_history(conversation_id, page["startCursor"])
        return True

    async def _fetch_history(self, conversation_id: str, before: str | None) -> None:
        answer = await self._session.ask(HISTORY, id=conversation_id, last=self._sizes[1], before=before)
        page = answer["conversation"]["messages"]
        for message in page["nodes"]:
            self._show(conversation_id, message)
        self._pages[conversation_id] = page["pageInfo"]

    def _show(self, conversation_id: str, message: dict[str, Any]) -> None:
        self._messages.setdefault(conversation_id, {})[message["seq"]] = message

    def history(self, conversation_id: str) -> list[tuple[str, bool]]:
        """Texts, oldest first, each with whether it is acked; last what is not, unless its event came first."""
        messages = self._messages.get(conversation_id, {})
        acked = [messages[seq] for seq in sorted(messages)]
        known = {message["clientMessageId"] for message in acked}
        waiting = [text for key, (where, text) in self._outbox.items() if where == conversation_id and key not in known]
        # Later versions may add kinds of content.
        said = [((message["content"] or {}).get("text", "something newer"), True) for message in acked]
        return said + [(text, False) for text in waiting]

    # ------------------------------------------------------------ sending

    def send(self, conversation_id: str, text: str) -> asyncio.Task[None]:
        """Shows the message at once and sends it after those before it; the task ends when it is acked."""
        key = str(uuid.uuid4())
        self._outbox[key] = (conversation_id, text)
        self._last_send = asyncio.create_task(self._deliver(key, self._last_send))
        return self._last_send

    async def _deliver(self, key: str, previous: asyncio.Task[None] | None) -> None:
        if previous:
            await asyncio.wait([previous])
        conversation_id, text = self._outbox[key]
        variables = {"conversationId": conversation_id, "clientMessageId": key, "content": {"text": {"text": text}}}
        failures = 0
        try:
            while True:
                try:
                    answer = await self._session.ask(SEND, input=variables)
                    self._show(conversation_id, accepted(answer["sendMessage"])["message"])
                    return
                except Exception as error:
                    if not worth_retrying(error):
                        raise
                await back_off(failures)
                failures += 1
        finally:
            del self._outbox[key]

    # ------------------------------------------------------------ live

    async def _follow(self) -> None:
        """Subscribes after the last cursor, again and again."""
        failures = 0
        while True:
            before = self._cursor
            try:
                await self._subscribe()
            except Exception as error:
                if not worth_retrying(error):
                    raise
            failures = 0 if self._cursor != before else failures + 1
            await back_off(failures)

    async def _subscribe(self) -> None:
        url = self._session.url.replace("http", "ws", 1)
        token = await self._session.access_token()
        async with ClientSession() as connections:
            transport = AIOHTTPWebsocketsTransport(
                url=url,
                session=connections,
                subprotocols=[AIOHTTPWebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
                init_payload={"authorization": f"Bearer {token}"},
                ping_interval=PING_SECONDS,
            )
            async with Client(transport=transport) as socket:
                renewal = asyncio.create_task(self._keep_renewed(socket))
                try:
                    request = GraphQLRequest(EVENTS, variable_values={"after": self._cursor})
                    async for answer in socket.subscribe(request):
                        await self._take(answer["events"])
                        self._cursor = answer["events"]["cursor"]
                finally:
                    renewal.cancel()

    async def _keep_renewed(self, socket: Any) -> None:
        """Lets the socket outlive its access token."""
        renewed = asyncio.Event()
        self._session.renewed.append(renewed.set)
        try:
            while True:
                try:
                    await asyncio.wait_for(renewed.wait(), self._session.seconds_until_renewal())
                except TimeoutError:
                    await self._session.renew()
                renewed.clear()
                variables = {"accessToken": self._session.tokens["accessToken"]}
                answer = await socket.execute(GraphQLRequest(RENEW_CONNECTION, variable_values=variables))
                accepted(answer["renewConnection"])
        finally:
            self._session.renewed.remove(renewed.set)

    async def _take(self, event: dict[str, Any]) -> None:
        match event:
            case {"__typename": "StreamOpened"}:
                self._opened.set()
            case {"__typename": "ConversationAdded", "conversation": conversation}:
                self._move_to_top(conversation)
            case {"__typename": "MessageSent", "message": message}:
                # What comes twice has the same `seq`.
                self._show(message["conversation"]["id"], message)
                self._move_to_top(message["conversation"])
            case {"__typename": "ResyncRequired"}:
                # What was missed cannot be told: what is shown is fetched anew.
                self.conversations, self._messages, opened = [], {}, list(self._pages)
                await self._fetch_conversations(None)
                for conversation_id in opened:
                    await self.open(conversation_id)

    def _move_to_top(self, conversation: dict[str, Any]) -> None:
        others = [other for other in self.conversations if other["id"] != conversation["id"]]
        self.conversations = [conversation, *others]
