"""Takes mail with aiosmtpd into a Maildir: peer_aiosmtpd.py DIR ADDRESS PORT."""

import asyncio
import os
import sys

from aiosmtpd.smtp import SMTP

directory, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Box:
    """Keeps each message as it came, in a file of its own."""

    count = 0

    async def handle_DATA(self, _server, _session, envelope):
        Box.count += 1
        name = f"{os.getpid()}-{Box.count}"
        path = os.path.join(directory, "box", "tmp", name)
        with open(path, "wb") as file:
            file.write(envelope.original_content)
        os.rename(path, os.path.join(directory, "box", "new", name))
        return "250 2.0.0 kept"


async def serve():
    def session():
        return SMTP(Box(), hostname="mx1.aiosmtpd.example", enable_SMTPUTF8=True, decode_data=False)

    server = await asyncio.get_running_loop().create_server(session, address, port)
    await server.serve_forever()


asyncio.run(serve())
