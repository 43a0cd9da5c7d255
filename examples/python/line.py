"""A way to the server that can be held up, cut and mended, for HTTP and WebSocket alike."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

CHUNK_BYTES = 65536


class Line:
    def __init__(self, url: str) -> None:
        self._far = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut = False
        self._flows = {"http": asyncio.Event(), "socket": asyncio.Event()}
        self.mend()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return self._far._replace(netloc=f"127.0.0.1:{port}").geturl()

    async def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self._cut:
            back.transport.abort()
            return
        far, forth = await asyncio.open_connection(self._far.hostname, self._far.port)
        self._writers |= {back, forth}
        first = await near.read(CHUNK_BYTES)
        forth.write(first)
        kind = "socket" if b"upgrade: websocket" in first.lower() else "http"
        await asyncio.gather(self._pump(near, forth, None), self._pump(far, back, self._flows[kind]))

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, flows: asyncio.Event | None
    ) -> None:
        try:
            while chunk := await source.read(CHUNK_BYTES):
                if flows:
                    await flows.wait()
                target.write(chunk)
                await target.drain()
        except OSError:
            pass
        target.close()
        self._writers.discard(target)

    def hold(self, *kinds: str) -> None:
        """From now on what is asked over `http` or `socket` arrives, but no answer does."""
        for kind in kinds:
            self._flows[kind].clear()

    def cut(self) -> None:
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """What was held arrives; what was cut can connect again."""
        self._cut = False
        for flows in self._flows.values():
            flows.set()

    def close(self) -> None:
        self.cut()
        self._server.close()
