"""A way to AWS that takes longer: each answer is held back, and nothing is read or changed on it."""

import asyncio
import logging
import threading

# What is still on its way when this process ends is of no interest.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class SlowProxy:
    """On a free port of the loopback, in a thread of this process. `seconds` may be set at any time."""

    def __init__(self, upstream_port: int) -> None:
        self.seconds = 0.0
        self._upstream = upstream_port
        self._listening = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        assert self._listening.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=256)
        self._port: int = server.sockets[0].getsockname()[1]
        self._listening.set()
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_aws, to_aws = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, to_aws, late=False), self._pass(from_aws, writer, late=True))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, late: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await source.read(65536):
                loop.call_later(self.seconds if late else 0.0, target.write, data)
        except OSError:
            pass
        loop.call_later(self.seconds + 0.1 if late else 0.0, target.close)
