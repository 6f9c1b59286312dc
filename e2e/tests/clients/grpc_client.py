"""A stranger's gRPC client, made from nothing but our .proto: sends messages through the tunnel and prints each
acknowledgement.

usage: grpc_client.py HOST PORT SERVER_NAME ROOTS CERTIFICATE KEY

Reads one message a line (the proto's own JSON form) from standard input, writes one acknowledgement a line to
standard output. PYTHONPATH holds the modules that `grpc_tools.protoc` made.
"""

import sys

import grpc
from ferry.v1 import relay_pb2, relay_pb2_grpc
from google.protobuf import json_format


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def main() -> None:
    host, port, server_name, roots, certificate, key = sys.argv[1:]
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read(roots),
        private_key=read(key) if key else None,
        certificate_chain=read(certificate) if certificate else None,
    )
    messages = [
        json_format.Parse(line, relay_pb2.Message())
        for line in sys.stdin
        if line.strip()
    ]
    # gRPC takes a proxy of the environment for every address, this machine's own among them.
    options = [
        ("grpc.ssl_target_name_override", server_name),
        ("grpc.enable_http_proxy", 0),
    ]
    with grpc.secure_channel(f"{host}:{port}", credentials, options) as channel:
        relay = relay_pb2_grpc.RelayStub(channel)
        for ack in relay.Carry(iter(messages), timeout=20):
            text = json_format.MessageToJson(
                ack, indent=None, preserving_proto_field_name=True
            )
            print(text, flush=True)


main()
