// Socket.IO 5, packet by packet, over a bare WebSocket and over polling: namespaces, acks, attachments, and every breach of the
// protocol. All of it holds for the reference too: SOCKETIO_SERVER=reference node --test tests/socketio/packets.test.mjs
import { strict as assert } from "node:assert";
import { after, before, describe, it } from "node:test";
import { Poller, Wire, packets, parse } from "./raw.mjs";
import { Server } from "./server.mjs";

let server;
before(async () => { server = await Server.start({ appEvents: true }); });
after(() => server.stop());

const roomName = (() => { let count = 0; return () => `room-${++count}`; })();
const connect = (user = "anna") => `40${JSON.stringify({ token: server.token(user) })}`;
const wire = (user = "anna", namespaces) => Wire.connected(server.url, server.token(user), namespaces);
const starting = (text) => (message) => typeof message === "string" && message.startsWith(text);

describe("CONNECT", () => {
  it("is answered by an id of its own, and by what recovery needs", async () => {
    const session = await Wire.handshake(server.url);
    session.send(connect());
    const reply = parse((await session.next()).slice(1));
    assert.deepEqual([reply.type, reply.nsp, reply.id], [0, "/", undefined]);
    assert.equal(typeof reply.data.sid, "string");
    assert.equal(typeof reply.data.pid, "string");
    assert.notEqual(reply.data.sid, reply.data.pid);
    session.end();
  });

  it("without a token is refused, and another try is allowed", async () => {
    const session = await Wire.handshake(server.url);
    for (const [attempt, code] of [["40", "auth_required"], ['40{"token":"x.y.z"}', "auth_failed"]]) {
      session.send(attempt);
      const reply = parse((await session.next()).slice(1));
      assert.equal(reply.type, 4);
      assert.equal(typeof reply.data.message, "string");
      assert.equal(reply.data.data.code, code);
    }
    session.send(connect());
    await session.until(starting("40{"));
    await session.lives();
    session.end();
  });

  it("to a namespace that there is not: Invalid namespace; the connection lives", async () => {
    const session = await wire();
    for (const nsp of ["/nowhere", "/chat?x=1", "/CHAT"]) {
      session.send(`40${nsp},${JSON.stringify({ token: server.token("anna") })}`);
      const reply = parse((await session.until(starting("44"))).slice(1));
      assert.deepEqual([reply.nsp, reply.data], [nsp, { message: "Invalid namespace" }]);
    }
    await session.lives();
    session.end();
  });

  it("to two namespaces of one connection: two ids, nothing shared", async () => {
    const session = await wire("anna", ["/", "/chat"]);
    assert.notEqual(session.sids[0], session.sids[1]);
    const room = roomName();
    await session.join(room, "/chat");
    session.send(`421["send_message",{"roomId":"${room}","message":"not joined here"}]`);
    const ack = parse((await session.until(starting("431["))).slice(1));
    assert.deepEqual([ack.data[0].ok, ack.data[0].error.code], [false, "not_in_room"]);
    session.send(`42/chat,1["send_message",{"roomId":"${room}","message":"joined here"}]`);
    assert.equal(parse((await session.until(starting("43/chat,1["))).slice(1)).data[0].ok, true);
    assert.equal(parse((await session.until(starting('42/chat,["new_message"'))).slice(1)).data[1].message, "joined here");
    session.end();
  });

  it("DISCONNECT leaves one namespace", async () => {
    const session = await wire("anna", ["/", "/chat"]);
    session.send("41/chat,");
    await session.lives();
    session.send(`40/chat,${JSON.stringify({ token: server.token("anna") })}`);
    await session.until(starting("40/chat,{"));
    await session.lives("/chat");
    session.end();
  });

  it("over polling", async () => {
    const session = await Poller.connected(server.url, server.token("anna"), ["/", "/chat"]);
    await session.say('42/chat,9["join_room",{"roomId":"polled"}]');
    assert.equal(parse((await session.until(starting("43/chat,9["))).slice(1)).data[0].ok, true);
  });
});

describe("ack ids", () => {
  it("come back as they were", async () => {
    const session = await wire();
    for (const id of [0, 1, 42, 65536, 4294967296, 9007199254740991]) {
      session.send(`42${id}["join_room",{"roomId":"ids"}]`);
      assert.equal(parse((await session.until(starting("43"))).slice(1)).id, id);
    }
    session.end();
  });

  it("nobody asked about are ignored", async () => {
    const session = await wire();
    session.send("435[]");
    session.send('4399["late"]');
    session.send('43["without an id"]');
    session.send('461-7[{"_placeholder":true,"num":0}]');
    session.send(Buffer.from([1]));
    await session.lives();
    session.end();
  });
});

describe("attachments", () => {
  // Everything that comes for one event: its text and its attachments.
  async function binaryEvent(session, name) {
    const is = (message) => typeof message === "string" && message.startsWith("45") && parse(message.slice(1)).data[0] === name;
    const packet = parse((await session.until(is)).slice(1));
    const attachments = [];
    while (attachments.length < packet.attachments) {
      const bytes = await session.next();
      assert.ok(Buffer.isBuffer(bytes), `no attachment: ${bytes}`);
      attachments.push(bytes);
    }
    return { args: packet.data.slice(1), attachments };
  }
  const placeholder = (num) => ({ _placeholder: true, num });
  const argsOf = (packet) => packet.args.slice(0, 3);

  it("go through, in order, whatever they hold", async () => {
    const [anna, bob, room] = [await wire("anna"), await wire("bob"), roomName()];
    await anna.join(room);
    await bob.join(room);
    const bytes = [Buffer.from([0, 255, 52, 30]), Buffer.alloc(0), Buffer.alloc(3000, 7)];
    anna.send(`453-${JSON.stringify(["blob", placeholder(1), { deep: [placeholder(0)] }, placeholder(2)])}`);
    for (const part of bytes) anna.send(part);
    const packet = await binaryEvent(bob, "blob");
    const at = ({ num }) => packet.attachments[num];
    assert.deepEqual(at(packet.args[0]), bytes[1]);
    assert.deepEqual(at(packet.args[1].deep[0]), bytes[0]);
    assert.deepEqual(at(packet.args[2]), bytes[2]);
    anna.end();
    bob.end();
  });

  it("go through polling as base64, and between the transports", async () => {
    const [anna, bob, room] = [await Poller.connected(server.url, server.token("anna")), await wire("bob"), roomName()];
    await anna.say(`421["join_room",{"roomId":"${room}"}]`);
    await anna.until(starting("431"));
    await bob.join(room);
    const blob = JSON.stringify(["blob", placeholder(0), 5, "end"]);
    await anna.say(`451-${blob}`, `b${Buffer.from([1, 2, 3, 0xff]).toString("base64")}`);
    const there = await binaryEvent(bob, "blob");
    assert.deepEqual([argsOf(there), there.attachments], [[placeholder(0), 5, "end"], [Buffer.from([1, 2, 3, 0xff])]]);
    bob.send(`451-${blob}`);
    bob.send(Buffer.from([9, 8]));
    await anna.until(starting('451-["blob"'));
    assert.equal(await anna.next(), `b${Buffer.from([9, 8]).toString("base64")}`);
    // Split over two bodies.
    await anna.say(`451-${blob}`);
    await anna.say(`b${Buffer.from([4]).toString("base64")}`);
    assert.deepEqual((await binaryEvent(bob, "blob")).attachments, [Buffer.from([4])]);
    bob.end();
  });

  it("with an ack, which comes when they are there", async () => {
    const [anna, room] = [await wire(), roomName()];
    await anna.join(room);
    anna.send(`451-12${JSON.stringify(["blob", placeholder(0)])}`);
    anna.send(Buffer.from("x"));
    assert.equal(parse((await anna.until(starting("4312["))).slice(1)).data[0].ok, true);
    anna.end();
  });
});

describe("a breach ends the connection", () => {
  const event = (list) => `42${JSON.stringify(list)}`;
  const blob = (count, list) => `45${count}-${JSON.stringify(list)}`;
  const place = (num) => ({ _placeholder: true, num });
  const reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
  const breaches = {
    "a second CONNECT": () => [connect()],
    "a CONNECT_ERROR of the client": () => ['44{"message":"x"}'],
    "an event of a namespace that is not connected": () => ['42/chat,["x"]'],
    "an ack of a namespace that is not connected": () => ["43/chat,1[]"],
    "a DISCONNECT of a namespace that is not connected": () => ["41/chat,"],
    "a CONNECT whose payload is a list": () => ["40/chat,[]"],
    "a CONNECT whose payload is a string": () => ['40/chat,"x"'],
    "a CONNECT whose payload is no JSON": () => ["40/chat,{"],
    "an event without a name": () => [event([])],
    "an event that is an object": () => ['42{"a":1}'],
    "an event that is a string": () => ['42"x"'],
    "an event that is no JSON": () => ['42["x"'],
    "an event with text behind it": () => ['42["x"] y'],
    "an event whose name is an object": () => [event([{}])],
    "an event whose name is null": () => [event([null])],
    "an event whose name is true": () => [event([true])],
    "an ack that is an object": () => ["431{}"],
    "a DISCONNECT with a payload": () => ['41{"a":1}'],
    "an unknown packet type": () => ["47[]"],
    "a packet without a type": () => ["4"],
    "a packet type that is a letter": () => ["4x"],
    "text while an attachment is due": () => [blob(1, ["x", place(0)]), event(["y"])],
    "an attachment while none is due": () => [Buffer.from("x")],
    "an attachment behind the last": () => [blob(1, ["x", place(0)]), Buffer.from("x"), Buffer.from("y")],
    "more than ten attachments": () => [blob(11, ["x", ...Array.from({ length: 11 }, (_, n) => place(n))])],
    "no attachments in a binary event": () => [blob(0, ["x"])],
    "a count of attachments that is no number": () => ['45x-["x"]'],
    "no count of attachments": () => ['45["x"]'],
    "a placeholder out of range": () => [blob(1, ["x", place(1)]), Buffer.from("x")],
    "a placeholder with a negative number": () => [blob(1, ["x", place(-1)]), Buffer.from("x")],
    "a placeholder whose number is a string": () => [blob(1, ["x", place("0")]), Buffer.from("x")],
    ...Object.fromEntries(reserved.map((name) => [`an event called ${name}`, () => [event([name])]])),
  };

  for (const [what, messages] of Object.entries(breaches)) {
    it(what, async () => {
      const session = await wire();
      for (const message of messages()) session.send(message);
      await session.closed();
    });
  }

  it("before anything is connected", async () => {
    for (const message of ['42["x"]', "431[]", "41", "4", 'x', Buffer.from("x"), "40[]"]) {
      const session = await Wire.handshake(server.url);
      session.send(message);
      await session.closed();
    }
  });

  it("over polling: the end comes with the next GET", async () => {
    for (const breach of ['42{"a":1}', `b${Buffer.from("x").toString("base64")}`]) {
      const session = await Poller.connected(server.url, server.token("anna"));
      await session.say('4288["join_room",{"roomId":"x"}]');
      await session.until(starting('42["room_joined"'));
      assert.equal((await session.post(breach)).status, 200);
      assert.equal(packets((await session.get()).body).at(-1), "1");
      await session.ended();
    }
  });
});

describe("no breach", () => {
  const harmless = {
    "an event whose name is a number": () => ["42[7]"],
    "an event whose name is empty": () => ['42[""]'],
    "ten attachments": () => [
      `4510-${JSON.stringify(["x", ...Array.from({ length: 10 }, (_, num) => ({ _placeholder: true, num }))])}`,
      ...Array.from({ length: 10 }, () => Buffer.from("x")),
    ],
    "an attachment that no placeholder names": () => ['451-["x"]', Buffer.from("x")],
    "an event with very many arguments": () => [`42${JSON.stringify(["x", ...Array(500).fill(0)])}`],
    "white space in the list": () => ['42[ "x" , 1 ]'],
    "a name with escapes": () => ['42["\\u0041\\n\\"",1]'],
  };
  for (const [what, messages] of Object.entries(harmless)) {
    it(what, async () => {
      const session = await wire();
      for (const message of messages()) session.send(message);
      await session.lives();
      session.end();
    });
  }
});
