"""A stranger's WebSocket client: sends messages to a pod through the tunnel and prints each acknowledgement.

usage: websocket_client.py HOST PORT SERVER_NAME ROOTS CERTIFICATE KEY

Reads one message a line (JSON) from standard input, writes one acknowledgement a line to standard output.
"""

import socket
import ssl
import sys

from websockets.sync.client import connect


def main() -> None:
    host, port, server_name, roots, certificate, key = sys.argv[1:]
    context = ssl.create_default_context(cafile=roots)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate:
        context.load_cert_chain(certificate, key)
    messages = [line.strip() for line in sys.stdin if line.strip()]
    with connect(
        f"wss://{server_name}:{port}/v1/carry",
        sock=socket.create_connection((host, int(port)), timeout=10),
        ssl=context,
        server_hostname=server_name,
        subprotocols=["ferry.v1"],
        max_size=16 * 1024 * 1024,
    ) as connection:
        assert connection.subprotocol == "ferry.v1", connection.subprotocol
        for message in messages:
            connection.send(message)
        for _ in messages:
            print(connection.recv(timeout=20), flush=True)


main()
