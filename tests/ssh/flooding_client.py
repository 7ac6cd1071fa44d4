"""A client that asks for far more than it takes: it asks for a whole file at once, says so, and reads nothing."""

from __future__ import annotations

import socket
import struct
import sys

import paramiko

PIECE = 255 * 1024  # bytes
REQUESTS = 2000


def packet(kind: int, *fields: bytes) -> bytes:
    body = bytes((kind,)) + b"".join(fields)
    return struct.pack(">I", len(body)) + body


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def received(channel: paramiko.Channel) -> bytes:
    """Return the next packet without its length."""
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        data += channel.recv(4096)
    return data[4:]


def main(port: str, login: str, key: str, path: str, window: str) -> None:
    """Ask for the first `REQUESTS` pieces of a file on a channel on which `window` bytes may come unread."""
    connection = paramiko.Transport(socket.create_connection(("127.0.0.1", int(port)), timeout=20))
    connection.connect(username=login, pkey=paramiko.Ed25519Key.from_private_key_file(key))
    channel = connection.open_session(window_size=int(window))
    channel.invoke_subsystem("sftp")
    channel.sendall(packet(1, struct.pack(">I", 3)))
    assert received(channel)[0] == 2
    channel.sendall(packet(3, struct.pack(">I", 0), string(path.encode()), struct.pack(">II", 1, 0)))
    opened = received(channel)
    assert opened[0] == 102, opened
    handle = opened[5:]
    reads = (
        packet(5, struct.pack(">I", number), handle, struct.pack(">QI", number * PIECE, PIECE))
        for number in range(REQUESTS)
    )
    channel.sendall(b"".join(reads))
    print("asked", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
