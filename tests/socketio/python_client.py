"""python-socketio against a server: one client connects, joins, sends, hears, and gets refusals; in app-events mode bytes too.

Usage: python_client.py URL TRANSPORT ROOM TOKEN OTHER_TOKEN BAD_TOKEN; TRANSPORT is websocket, polling or both (with upgrade).
Exit code 0: everything was as it should be.
"""
import os
import queue
import sys

import socketio

PATIENCE_S = 20
TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "both": ["polling", "websocket"]}


class Client:
    """A connected client; events of a name wait in a queue of their own."""

    def __init__(self, url, transport, token):
        self.events = {}
        self.io = socketio.Client(reconnection_delay=0.1, reconnection_delay_max=1)
        self.io.on("*", lambda name, *args: self.waiting(name).put(args))
        self.io.on("connect_error", lambda data: self.waiting("connect_error").put((data,)))
        self.io.connect(url, auth={"token": token}, transports=TRANSPORTS[transport], wait_timeout=PATIENCE_S)

    def waiting(self, name):
        return self.events.setdefault(name, queue.Queue())

    def heard(self, name):
        return self.waiting(name).get(timeout=PATIENCE_S)

    def ask(self, name, *data):
        return self.io.call(name, data[0] if len(data) == 1 else data, timeout=PATIENCE_S)


def equal(got, expected):
    if got != expected:
        raise AssertionError(f"{got!r} is not {expected!r}")


def main():
    url, transport, room, token, other_token, bad_token = sys.argv[1:]
    anna = Client(url, transport, token)
    bob = Client(url, transport, other_token)
    equal(anna.heard("connection_established")[0]["userId"], "anna")
    equal(anna.ask("join_room", {"roomId": room})["ok"], True)
    equal(anna.heard("room_joined")[0]["roomId"], room)
    equal(bob.ask("join_room", {"roomId": room})["ok"], True)
    equal(anna.heard("user_joined")[0]["userId"], "bob")

    answer = anna.ask("send_message", {"roomId": room, "message": "ü 漢字 🐝"})
    equal((answer["ok"], answer["result"]["duplicate"]), (True, False))
    for who in (anna, bob):
        message = who.heard("new_message")[0]
        equal((message["message"], message["userId"], message["id"]), ("ü 漢字 🐝", "anna", answer["result"]["messageId"]))

    refused = anna.ask("send_message", {"roomId": room + "-elsewhere", "message": "x"})
    equal((refused["ok"], refused["error"]["code"]), (False, "not_in_room"))
    anna.io.emit("send_message", {"roomId": room + "-elsewhere", "message": "x"})
    equal(anna.heard("error")[0]["code"], "not_in_room")
    anna.io.emit("typing_start", {"roomId": room})
    equal(bob.heard("user_typing")[0]["isTyping"], True)

    # Any event of the application, bytes in it.
    answer = anna.ask("file", {"name": "x", "part": b"\x00\xfe\xff"}, b"", 7)
    equal(answer["ok"], True)
    equal(bob.heard("file")[:3], ({"name": "x", "part": b"\x00\xfe\xff"}, b"", 7))

    # Questions, both ways: what a handler returns is the answer. On the reference clients ask nobody.
    if os.environ.get("SOCKETIO_SERVER") != "reference":
        bob.io.on("vote", lambda where, part: {"room": where["roomId"], "part": part})
        result = anna.ask("ask", "vote", {"roomId": room}, b"\x01\xff")["result"]
        equal((result["asked"], result["isComplete"]), (1, True))
        equal(result["answers"], [{"userId": "bob", "payload": {"room": room, "part": b"\x01\xff"}}])
        result = bob.ask("ask", {"roomId": room, "event": "unheard", "payload": [1]})["result"]
        equal((result["answers"], result["isComplete"]), ([{"userId": "anna", "payload": None}], True))

    try:
        Client(url, transport, bad_token)
        raise AssertionError("a bad token was accepted")
    except socketio.exceptions.ConnectionError:
        pass
    equal(anna.io.transport(), "polling" if transport == "polling" else "websocket")
    for who in (anna, bob):
        who.io.disconnect()


main()
