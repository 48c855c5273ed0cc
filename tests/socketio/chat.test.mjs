// npm socket.io-client 4 chats: over each transport, through the upgrade, in two namespaces, and with native clients.
import { strict as assert } from "node:assert";
import { after, afterEach, before, describe, it } from "node:test";
import {
  TRANSPORTS, client, collect, command, connected, endAll, join, once, pair, range, reaches, roomName, say, texts, transportOf,
} from "./clients.mjs";
import { eventually, pause, within } from "./raw.mjs";
import { Server, isReference } from "./server.mjs";
import { WebSocket } from "./tools.mjs";

let server;
before(async () => { server = await Server.start(); });
after(() => server.stop());
afterEach(endAll);

for (const transports of Object.keys(TRANSPORTS)) {
  describe(`over ${transports}`, () => {
    it("connects, and stays what it was asked to be", async () => {
      const anna = await connected(server, { transports });
      assert.equal(typeof anna.id, "string");
      if (transports === "upgrading") await eventually(() => transportOf(anna) === "websocket", "an upgrade");
      else assert.equal(transportOf(anna), transports);
      assert.notEqual(anna.id, anna.io.engine.id);
    });

    it("the ready event comes first", async () => {
      const anna = client(server, { transports });
      const [first] = await once(anna, "connection_established");
      assert.equal(first.userId, "anna");
    });

    it("joins, sends, hears itself and others; the ack says what became of it", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      const state = once(anna, "room_joined");
      assert.equal((await join(anna, room)).role, null);
      const [snapshot] = await state;
      assert.equal(snapshot.roomId, room);
      assert.deepEqual([snapshot.recentMessages, snapshot.users], [[], ["anna"]]);
      const came = once(anna, "user_joined");
      await join(bob, room);
      assert.equal((await came)[0].userId, "bob");
      const heard = [once(anna, "new_message"), once(bob, "new_message")];
      const result = await say(anna, room, " Hello, Bob ");
      for (const [message] of await Promise.all(heard)) {
        assert.deepEqual([message.roomId, message.userId, message.message], [room, "anna", "Hello, Bob"]);
        assert.deepEqual([message.id, message.offset, message.epoch], [result.messageId, 1, result.epoch]);
      }
      assert.equal(result.duplicate, false);
    });

    it("many messages both ways arrive once and in order", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const heard = texts(bob);
      const sent = range(0, 200);
      const acks = sent.map((message) => say(anna, room, message));
      const offsets = (await Promise.all(acks)).map(({ offset }) => offset);
      await reaches(heard, sent.length, "messages");
      assert.deepEqual(heard, sent);
      assert.deepEqual(offsets, sent.map((_, n) => n + 1));
    });

    it("refusals come to the ack, and without one as the event error", async () => {
      const anna = await connected(server, { transports });
      const answer = await anna.timeout(20000).emitWithAck("send_message", { roomId: roomName(), message: "x" });
      assert.deepEqual([answer.ok, answer.error.code, answer.error.retryable], [false, "not_in_room", false]);
      assert.equal(typeof answer.error.message, "string");
      const error = once(anna, "error");
      anna.emit("send_message", { roomId: roomName(), message: "x" });
      assert.equal((await error)[0].code, "not_in_room");
      const unknown = await anna.timeout(20000).emitWithAck("fly", { high: true });
      assert.deepEqual([unknown.ok, unknown.error.code], [false, "unknown_type"]);
      const event = once(anna, "error");
      anna.emit("fly", { high: true });
      assert.equal((await event)[0].code, "unknown_type");
      await join(anna, roomName());
    });

    it("typing and live events reach the others", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const typing = once(bob, "user_typing");
      anna.emit("typing_start", { roomId: room });
      const [indicator] = await typing;
      assert.deepEqual([indicator.roomId, indicator.userId, indicator.isTyping], [room, "anna", true]);
      const own = collect(anna, "broadcast");
      const live = once(bob, "broadcast");
      anna.emit("broadcast", { roomId: room, event: "cursor", payload: { x: 3, y: [4] } });
      const [event] = await live;
      assert.deepEqual([event.userId, event.event, event.payload], ["anna", "cursor", { x: 3, y: [4] }]);
      anna.emit("broadcast", { roomId: room, event: "to all", payload: 1, includeSelf: true });
      await reaches(own, 1, "own events");
      assert.deepEqual(own.map(({ event }) => event), ["to all"]);
    });

    it("whoever wants an ack to a live event or to typing gets one", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      await join(anna, room);
      assert.deepEqual(await command(anna, "broadcast", { roomId: room, event: "e" }), {});
      assert.deepEqual(await command(anna, "typing_start", { roomId: room }), {});
      const refused = await anna.timeout(20000).emitWithAck("broadcast", { roomId: roomName(), event: "e" });
      assert.deepEqual([refused.ok, refused.error.code], [false, "not_in_room"]);
    });

    it("a heartbeat is answered", async () => {
      const anna = await connected(server, { transports });
      const answer = once(anna, "heartbeat_response");
      anna.emit("heartbeat", { timestamp: 12345 });
      assert.equal((await answer)[0].clientTimestamp, 12345);
    });

    it("leaving is leaving", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      await join(anna, room);
      await command(anna, "leave_room", { roomId: room });
      const again = await anna.timeout(20000).emitWithAck("leave_room", { roomId: room });
      assert.equal(again.error.code, "not_in_room");
    });

    it("a bad token is a connect_error, which says why", async () => {
      for (const token of ["x.y.z", server.token("anna", { exp: 1 })]) {
        const anna = client(server, { transports, token });
        const error = await within(new Promise((done) => anna.once("connect_error", done)), "connect_error");
        assert.equal(error.data?.code, "auth_failed");
        assert.equal(anna.active, false, "no retry with the same token");
      }
    });

    it("the client's disconnect is told to the room", async () => {
      if (isReference) return; // it tells nobody
      const room = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const left = once(anna, "user_left");
      bob.disconnect();
      assert.equal((await left)[0].userId, "bob");
    });
  });
}

describe("the upgrade", () => {
  it("loses, doubles and reorders nothing while messages flow in both directions", async () => {
    const room = roomName();
    const bob = await connected(server, { user: "bob" });
    await join(bob, room);
    const fromAnna = collect(bob, "broadcast", ({ payload }) => payload);
    for (let round = 0; round < 5; round++) {
      fromAnna.length = 0;
      const anna = client(server, { transports: "upgrading", user: `anna${round}` });
      const upgraded = new Promise((done) => anna.io.on("open", () => anna.io.engine.once("upgrade", done)));
      const heard = collect(anna, "broadcast", ({ payload }) => payload);
      await once(anna, "connect");
      await join(anna, room);
      let count = 0;
      let isOver = false;
      const stream = (async () => {
        while (!isOver) {
          anna.emit("broadcast", { roomId: room, event: "n", payload: count });
          bob.emit("broadcast", { roomId: room, event: "n", payload: count });
          count++;
          await pause(1);
        }
      })();
      await within(upgraded, "an upgrade");
      await pause(50);
      isOver = true;
      await stream;
      assert.equal(transportOf(anna), "websocket");
      await reaches(heard, count, "events from bob");
      await reaches(fromAnna, count, "events from anna");
      const expected = Array.from({ length: count }, (_, n) => n);
      assert.deepEqual(heard, expected, `round ${round}`);
      assert.deepEqual(fromAnna, expected, `round ${round}`);
      anna.disconnect();
    }
  });
});

describe("namespaces", () => {
  for (const transports of Object.keys(TRANSPORTS)) {
    it(`two over one connection by ${transports} are two clients`, async () => {
      const { manager, sockets: [main, chat] } = await pair(server, ["/", "/chat"], { transports });
      assert.equal(main.io, manager);
      assert.notEqual(main.id, chat.id);
      const room = roomName();
      await join(chat, room);
      const answer = await main.timeout(20000).emitWithAck("send_message", { roomId: room, message: "x" });
      assert.equal(answer.error.code, "not_in_room");
      const heard = texts(chat);
      await say(chat, room, "in chat");
      await reaches(heard, 1, "messages");
      chat.disconnect();
      await join(main, room);
      assert.equal(main.connected, true);
    });
  }

  it("one that there is not is a connect_error", async () => {
    const anna = client(server, { namespace: "/nowhere" });
    const error = await within(new Promise((done) => anna.once("connect_error", done)), "connect_error");
    assert.equal(error.message, "Invalid namespace");
  });
});

describe("with native clients", { skip: isReference }, () => {
  // A client of the native protocol, as any WebSocket library would be one.
  async function native(user) {
    const socket = new WebSocket(`${server.webSocketUrl}/ws`, { headers: { authorization: `Bearer ${server.token(user)}` } });
    const events = [];
    socket.on("message", (text) => events.push(JSON.parse(text)));
    const find = (type) => eventually(() => events.find((event) => event.type === type), `native ${type}`);
    await find("connection_established");
    const send = (type, data) => socket.send(JSON.stringify({ id: `${type}-${Math.random()}`, type, data }));
    return { socket, events, find, send };
  }

  for (const transports of Object.keys(TRANSPORTS)) {
    it(`in one room, a client over ${transports} and a native one hear each other`, async () => {
      const room = roomName();
      const nina = await native("nina");
      const anna = await connected(server, { transports });
      nina.send("join_room", { roomId: room });
      await nina.find("room_state");
      await join(anna, room);
      assert.equal((await nina.find("user_joined")).data.userId, "anna");
      await say(anna, room, "from socket.io");
      const there = await nina.find("chat_message");
      assert.deepEqual([there.data.userId, there.data.message], ["anna", "from socket.io"]);
      const here = once(anna, "new_message", ({ userId }) => userId === "nina");
      nina.send("chat_message", { roomId: room, message: "from native" });
      assert.equal((await here)[0].message, "from native");
      const typing = once(anna, "user_typing");
      nina.send("typing_start", { roomId: room });
      assert.deepEqual([(await typing)[0].userId, (await typing)[0].isTyping], ["nina", true]);
      anna.emit("typing_start", { roomId: room });
      assert.equal((await nina.find("typing_indicator")).data.userId, "anna");
      anna.emit("broadcast", { roomId: room, event: "e", payload: [1, "ü"] });
      assert.deepEqual((await nina.find("broadcast")).data.payload, [1, "ü"]);
      nina.socket.close();
    });
  }
});

describe("limits", () => {
  it("a payload over the limit ends the connection, and the client comes back", async () => {
    for (const transports of ["websocket", "polling"]) {
      const anna = await connected(server, { transports });
      const lost = once(anna, "disconnect");
      anna.emit("broadcast", { roomId: "x", payload: "x".repeat(1_100_000) });
      if (transports === "websocket") assert.match((await lost)[0], /transport|ping/);
      // Over polling the body is refused with 413, which the client takes for a broken transport.
      else assert.equal((await lost)[0], "transport error");
      await once(anna, "connect");
      anna.disconnect();
    }
  });
});

describe("many clients", () => {
  it("poll through all shards at once, and lose nothing", async () => {
    const [count, rooms] = [60, 6];
    const prefix = roomName();
    const users = await Promise.all(Array.from({ length: count }, async (_, n) => {
      const socket = await connected(server, { user: `user-${n}`, transports: "polling" });
      const room = `${prefix}-${n % rooms}`;
      await join(socket, room);
      return { socket, room, heard: texts(socket), said: `from ${n}` };
    }));
    await Promise.all(users.map(({ socket, room, said }) => say(socket, room, said)));
    for (const user of users) {
      await reaches(user.heard, count / rooms, "messages");
      const expected = users.filter(({ room }) => room === user.room).map(({ said }) => said);
      assert.deepEqual([...user.heard].sort(), expected.sort());
    }
    // One order for all in a room.
    for (const { room, heard } of users) {
      assert.deepEqual(heard, users.find((other) => other.room === room).heard);
    }
  });
});
