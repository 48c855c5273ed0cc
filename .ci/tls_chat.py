"""A chat by WebSocket over Python's ssl (OpenSSL), written on the socket: joins a room, sends messages of many sizes, hears them.
Arguments: port, certificate to trust, token."""
import json
import os
import socket
import ssl
import struct
import sys

port, certificate, token = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def connect(version):
    context = ssl.create_default_context(cafile=certificate)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname="localhost")
    assert stream.selected_alpn_protocol() == "http/1.1"
    request = (
        f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    stream.sendall(request.encode())
    reader = stream.makefile("rb")
    status = reader.readline()
    assert status.startswith(b"HTTP/1.1 101 "), status
    while reader.readline() != b"\r\n":
        pass
    return stream, reader


def frame(text, opcode=1):
    data, mask = text.encode(), os.urandom(4)
    size = len(data)
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def messages(reader):
    while True:
        first, size = reader.read(2)
        if size == 126:
            size = struct.unpack(">H", reader.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", reader.read(8))[0]
        data = reader.read(size)
        if first & 15 == 1:
            yield json.loads(data)
        elif first & 15 == 8:
            return


for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    stream, reader = connect(version)
    heard = messages(reader)
    send = lambda kind, data: stream.sendall(
        frame(json.dumps({"id": f"{kind}-{os.urandom(4).hex()}", "type": kind, "data": data}))
    )
    send("join_room", {"roomId": f"room-{version.name}"})
    for size in (1, 100, 1900):
        send("chat_message", {"roomId": f"room-{version.name}", "message": "x" * size})
        chat = next(message for message in heard if message["type"] == "chat_message")
        assert chat["data"]["message"] == "x" * size, chat
    stream.sendall(b"".join([frame("", 9), b"\x88\x82\0\0\0\0" + struct.pack(">H", 1000)]))
    assert list(heard) == [], "only the close was left"
    assert reader.read() == b"", "the stream ends in order"
    stream.close()
