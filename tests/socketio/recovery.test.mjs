// Connection state recovery: the transport is lost under npm socket.io-client 4, which comes back by itself with its pid and offset.
import { strict as assert } from "node:assert";
import { after, afterEach, before, describe, it } from "node:test";
import { TRANSPORTS, collect, connected, endAll, enter, join, once, range, reaches, roomName, say, texts } from "./clients.mjs";
import { Wire, eventually } from "./raw.mjs";
import { Server, isReference } from "./server.mjs";

afterEach(endAll);

// Cuts the transport as a network would: no DISCONNECT, no close packet.
const CUTS = {
  "the engine's close": (socket) => socket.io.engine.close(),
  "a cut under it": (socket) => {
    const { transport } = socket.io.engine;
    if (transport.name === "websocket") transport.ws.terminate();
    else transport.onError("cut");
  },
};

describe("a lost connection", () => {
  let server;
  before(async () => { server = await Server.start(); });
  after(() => server.stop());

  for (const transports of Object.keys(TRANSPORTS)) {
    for (const [how, cut] of Object.entries(CUTS)) {
      it(`over ${transports}, by ${how}: id, rooms and what was missed come back, once and in order`, async () => {
        const room = roomName();
        const anna = await connected(server, { transports, reconnectionDelay: 400, randomizationFactor: 0 });
        const bob = await connected(server, { user: "bob" });
        await join(anna, room);
        await join(bob, room);
        assert.equal(anna.recovered, false);
        const heard = texts(anna);
        const { id } = anna;
        for (const message of range(0, 10)) await say(bob, room, message);
        await reaches(heard, 10, "messages");
        for (let round = 0; round < 3; round++) {
          const first = 10 * (round + 1);
          const lost = once(anna, "disconnect");
          const back = once(anna, "connect");
          cut(anna);
          await lost;
          for (const message of range(first, first + 10)) await say(bob, room, message);
          await back;
          assert.equal(anna.recovered, true, `round ${round}`);
          assert.equal(anna.id, id, "the same id");
          await reaches(heard, first + 10, "messages");
        }
        // It is in its room, without joining again.
        await say(anna, room, "m40");
        await reaches(heard, 41, "messages");
        assert.deepEqual(heard, range(0, 41));
      });
    }
  }

  it("in a room where nothing was said yet: the room comes back", async () => {
    const room = roomName();
    const anna = await connected(server);
    const bob = await connected(server, { user: "bob" });
    await enter(anna, room);
    await enter(anna, `${room}-other`);
    await join(bob, room);
    const heard = texts(anna);
    const { id } = anna;
    const back = once(anna, "connect");
    anna.io.engine.close();
    await back;
    assert.equal(anna.recovered, true);
    assert.equal(anna.id, id);
    await say(bob, room, "later");
    await reaches(heard, 1, "messages");
  });

  it("what the client buffers while it is away is sent afterwards", async () => {
    const room = roomName();
    const anna = await connected(server);
    const bob = await connected(server, { user: "bob" });
    await enter(anna, room);
    await join(bob, room);
    const heard = texts(bob);
    await say(bob, room, "m0");
    const back = once(anna, "connect");
    anna.io.engine.close();
    await eventually(() => !anna.connected, "the loss");
    // In the same turn as the answer to CONNECT, which must not overtake the return into the rooms.
    const acks = range(1, 6).map((message) => say(anna, room, message));
    await back;
    await Promise.all(acks);
    await reaches(heard, 6, "messages");
    assert.deepEqual(heard, range(0, 6));
  });

  it("after the client's own disconnect there is nothing to recover", async () => {
    const anna = await connected(server);
    const { id } = anna;
    const back = once(anna, "connect");
    anna.disconnect().connect();
    await back;
    assert.equal(anna.recovered, false);
    assert.notEqual(anna.id, id);
  });

  it("what cannot be recovered is a new session: an unknown pid, another user's pid, nonsense", async () => {
    const connect = async (auth) => {
      const wire = await Wire.handshake(server.url);
      wire.send(`40${JSON.stringify(auth)}`);
      const reply = JSON.parse((await wire.until((message) => String(message).startsWith("40"))).slice(2));
      return { wire, reply };
    };
    const first = await connect({ token: server.token("anna") });
    first.wire.cut();
    const attempts = [
      { token: server.token("anna"), pid: "nobody", offset: "1" },
      { token: server.token("anna"), pid: first.reply.pid, offset: "nonsense" },
      { token: server.token("anna"), pid: 5, offset: {} },
      ...(isReference ? [] : [{ token: server.token("mallory"), pid: first.reply.pid, offset: "1" }]),
    ];
    for (const auth of attempts) {
      const { wire, reply } = await connect(auth);
      assert.equal(typeof reply.pid, "string");
      assert.notEqual(reply.pid, first.reply.pid, JSON.stringify(auth));
      assert.notEqual(reply.sid, first.reply.sid);
      await wire.lives();
      wire.end();
    }
  });
});

describe("a connection that was lost for too long", () => {
  let server;
  before(async () => { server = await Server.start({ recoverMs: 1000 }); });
  after(() => server.stop());

  it("comes back as another: not recovered, a fresh id, in no room", async () => {
    const room = roomName();
    const anna = await connected(server, { reconnectionDelay: 5000, reconnectionDelayMax: 5000, randomizationFactor: 0 });
    const bob = await connected(server, { user: "bob" });
    await join(anna, room);
    await join(bob, room);
    const heard = texts(anna);
    await say(bob, room, "m0");
    await reaches(heard, 1, "messages");
    const { id } = anna;
    const back = once(anna, "connect");
    anna.io.engine.close();
    await say(bob, room, "m1");
    await back;
    assert.equal(anna.recovered, false);
    assert.notEqual(anna.id, id);
    const refused = await anna.timeout(20000).emitWithAck("send_message", { roomId: room, message: "x" });
    assert.equal(refused.error.code, "not_in_room");
    await join(anna, room);
    assert.deepEqual(heard, ["m0"]);
  });
});

describe("heartbeats", () => {
  const PING_MS = 500;
  let server;
  before(async () => { server = await Server.start({ pingIntervalMs: PING_MS, pingTimeoutMs: PING_MS }); });
  after(() => server.stop());

  it("keep an idle client, over each transport", async () => {
    for (const transports of Object.keys(TRANSPORTS)) {
      const anna = await connected(server, { transports });
      const losses = collect(anna, "disconnect", (reason) => reason);
      const pings = collect(anna.io, "ping", () => 1);
      await reaches(pings, 4, "pings");
      await join(anna, roomName());
      assert.deepEqual(losses, []);
      anna.disconnect();
    }
  });

  it("a client that does not answer is lost to the others, and recovers what it missed", async () => {
    const room = roomName();
    const anna = await connected(server);
    const bob = await connected(server, { user: "bob" });
    await join(anna, room);
    await join(bob, room);
    const heard = texts(anna);
    await say(bob, room, "m0");
    await reaches(heard, 1, "messages");
    const lost = once(anna, "disconnect");
    const back = once(anna, "connect");
    // Deaf and dumb, as behind a network that is gone; the server must find out by itself.
    const { transport } = anna.io.engine;
    transport.send = () => {};
    await lost;
    await say(bob, room, "m1");
    await back;
    assert.equal(anna.recovered, true);
    await reaches(heard, 2, "messages");
    assert.deepEqual(heard, ["m0", "m1"]);
  });
});
