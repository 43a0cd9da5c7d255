"""What the example claims, proven against the server that CONFAB_URL names: python -m unittest"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
import unittest
from collections.abc import Callable
from typing import Any

from chat import Chat
from line import Line
from operations import CREATE_GROUP, HISTORY, SEND
from session import Refused, Session

URL = os.environ.get("CONFAB_URL", "http://127.0.0.1:4000").rstrip("/") + "/graphql"
PATIENCE_SECONDS = 20
TOKEN_LIVES_SECONDS = 15 * 60


def account(name: str) -> dict[str, Any]:
    return {"username": f"{name}-{secrets.token_hex(6)}", "password": secrets.token_hex(8)}


async def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}, not within {PATIENCE_SECONDS} s")
        await asyncio.sleep(0.01)


class ChatTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        # What Ada's clock is ahead of the server's, until she has a new token.
        self.ahead = 0.0
        self.line = Line(URL)
        self.url = await self.line.open()
        self.account = account("ada")
        self.ada = await Session.register(
            self.url, {**self.account, "displayName": "Ada"}, lambda: time.time() + self.ahead
        )
        self.bob = await Session.register(URL, {**account("bob"), "displayName": "Bob"})
        self.group = await self.create_group("tea")
        self.chat = Chat(self.ada, conversations_a_page=3, messages_a_page=5)
        await self.chat.start()
        await self.chat.open(self.group)

    async def asyncTearDown(self) -> None:
        await self.chat.close()
        self.line.close()

    async def create_group(self, title: str) -> str:
        group = {"title": title, "memberIds": [self.ada.user["id"]]}
        return str((await self.bob.ask(CREATE_GROUP, input=group))["createGroup"]["conversation"]["id"])

    async def say(self, text: str) -> None:
        message = {
            "conversationId": self.group,
            "clientMessageId": secrets.token_hex(8),
            "content": {"text": {"text": text}},
        }
        answer = await self.bob.ask(SEND, input=message)
        self.assertEqual(answer["sendMessage"]["userErrors"], [])

    async def stored(self) -> list[str]:
        answer = await self.bob.ask(HISTORY, id=self.group, last=100)
        return [message["content"]["text"] for message in answer["conversation"]["messages"]["nodes"]]

    async def shows(self, *texts: str) -> None:
        expected = [(text, True) for text in texts]
        await until(f"shows {expected}", lambda: self.chat.history(self.group) == expected)

    async def test_signs_in_on_another_device_and_tells_a_wrong_password_by_its_code(self) -> None:
        with self.assertRaises(Refused) as caught:
            await Session.sign_in(self.url, {**self.account, "password": "another one"})
        self.assertEqual(caught.exception.code, "INVALID_CREDENTIALS")
        again = await Session.sign_in(self.url, {**self.account, "deviceName": "tablet"})
        self.assertEqual(again.user, self.ada.user)

    async def test_pages_through_all_conversations_the_latest_first(self) -> None:
        titles = [f"group {number}" for number in range(7)]
        for title in titles:
            await self.create_group(title)
        second = Chat(self.ada, conversations_a_page=3)
        await second.start()
        self.assertEqual(len(second.conversations), 3)
        while await second.more_conversations():
            pass
        await second.close()
        self.assertEqual([each["title"] for each in second.conversations], [*reversed(titles), "tea"])

    async def test_pages_back_through_a_history_each_message_once(self) -> None:
        texts = [f"said {number}" for number in range(11)]
        for text in texts:
            await self.say(text)
        second = Chat(self.ada, messages_a_page=5)
        await second.start()
        await second.open(self.group)
        self.assertEqual(second.history(self.group), [(text, True) for text in texts[-5:]])
        while await second.older(self.group):
            pass
        await second.close()
        self.assertEqual(second.history(self.group), [(text, True) for text in texts])

    async def test_shows_a_send_at_once_and_one_message_when_the_event_comes_before_the_answer(self) -> None:
        self.line.hold("http")
        sent = self.chat.send(self.group, "mine")
        self.assertEqual(self.chat.history(self.group), [("mine", False)])
        await self.shows("mine")
        self.assertFalse(sent.done())
        self.line.mend()
        await sent
        await self.say("yours")
        await self.shows("mine", "yours")

    async def test_sends_again_when_the_answer_is_lost_and_that_is_one_message(self) -> None:
        self.line.hold("http", "socket")
        sent = self.chat.send(self.group, "in the tunnel")
        while not await self.stored():
            pass
        self.line.cut()
        self.assertEqual(self.chat.history(self.group), [("in the tunnel", False)])
        self.line.mend()
        await sent
        await self.shows("in the tunnel")
        self.assertEqual(await self.stored(), ["in the tunnel"])

    async def test_goes_on_after_a_cut_where_it_was_without_loss_and_without_doubles(self) -> None:
        await self.say("before")
        await self.shows("before")
        self.line.cut()
        missed = [f"missed {number}" for number in range(30)]
        for text in missed:
            await self.say(text)
        self.assertEqual(self.chat.history(self.group), [("before", True)], "the line is cut")
        self.line.mend()
        await self.say("back")
        await self.shows("before", *missed, "back")

    async def test_fetches_anew_when_so_much_was_missed_that_it_cannot_be_told(self) -> None:
        await self.say("before")
        await self.shows("before")
        self.line.cut()
        missed = [f"much {number}" for number in range(60)]
        for text in missed:
            await self.say(text)
        self.line.mend()
        await until("shows the last", lambda: self.chat.history(self.group)[-1:] == [(missed[-1], True)])
        while await self.chat.older(self.group):
            pass
        await self.shows("before", *missed)

    async def test_loses_nothing_that_is_said_while_a_history_is_fetched(self) -> None:
        self.line.hold("http")
        opening = asyncio.create_task(self.chat.open(self.group))
        # Meanwhile the answer is made, and held up on the line.
        for _ in range(3):
            await self.say("early")
        await self.shows("early", "early", "early")
        self.line.mend()
        await opening
        await self.shows("early", "early", "early")

    async def test_renews_a_token_that_ends_once_for_all_who_wait_and_keeps_its_socket(self) -> None:
        renewals: list[str] = []

        def renewed() -> None:
            renewals.append(self.ada.tokens["accessToken"])
            self.ahead = 0

        self.ada.renewed.insert(0, renewed)
        self.ahead = TOKEN_LIVES_SECONDS
        await asyncio.gather(self.chat.send(self.group, "later"), self.chat.open(self.group))
        self.assertEqual(len(renewals), 1)
        await self.say("still here")
        await self.shows("later", "still here")

    async def test_renews_a_token_that_the_server_refuses(self) -> None:
        kept = Session(self.url, self.ada.user, {**self.ada.tokens, "accessToken": "spoiled"})
        self.assertEqual((await kept.ask("{ viewer { id } }"))["viewer"]["id"], self.ada.user["id"])
        self.assertNotEqual(kept.tokens["refreshToken"], self.ada.tokens["refreshToken"])


if __name__ == "__main__":
    unittest.main()
