// Any event of an application, without server code: `--app-events`. npm socket.io-client 4 emits what it likes, and the others get
// the same event with the same arguments: those in the room that the first argument's `roomId` names, else the whole namespace.
import { strict as assert } from "node:assert";
import { after, afterEach, before, describe, it } from "node:test";
import { TRANSPORTS, collect, command, connected, endAll, join, once, reaches, roomName } from "./clients.mjs";
import { Server } from "./server.mjs";

let server;
before(async () => { server = await Server.start({ appEvents: true }); });
after(() => server.stop());
afterEach(endAll);

async function two(transports, room = roomName()) {
  const anna = await connected(server, { transports });
  const bob = await connected(server, { transports, user: "bob" });
  await join(anna, room);
  await join(bob, room);
  return [anna, bob, room];
}

// What recovery appends to an event (its offset, a string) is no argument of ours.
const upTo = (count) => (...args) => args.slice(0, count);

for (const transports of Object.keys(TRANSPORTS)) {
  describe(`over ${transports}`, () => {
    it("event and arguments arrive as they were sent", async () => {
      const [anna, bob, roomId] = await two(transports);
      const cases = [
        [],
        [1],
        ["a string"],
        ["several", 2, true, null, { deep: [{ er: 1.5 }] }, []],
        ["ü 漢字 🐝 \u2028 \"quoted\" \\ \u0000", "text behind"],
        [{ _placeholder: false, num: 0 }],
        [0, -1.25e-7, 9007199254740991],
        [{ roomId, x: 1 }, "in the room"],
        [{ roomId: 7 }, "no room"],
      ];
      for (const args of cases) {
        const event = once(bob, "anything");
        anna.emit("anything", ...args);
        assert.deepEqual(upTo(args.length)(...(await event)), args);
      }
    });

    it("without a room: to the whole namespace, not back to the sender, not to other namespaces", async () => {
      const [anna, bob] = await two(transports);
      const carol = await connected(server, { transports, user: "carol" });
      const elsewhere = await connected(server, { transports, user: "dora", namespace: "/chat" });
      const wrong = [anna, elsewhere].map((socket) => collect(socket, "move"));
      const right = [bob, carol].map((socket) => collect(socket, "move"));
      for (let n = 0; n < 20; n++) anna.emit("move", n);
      for (const list of right) {
        await reaches(list, 20, "events");
        assert.deepEqual(list, Array.from({ length: 20 }, (_, n) => n));
      }
      // Behind all of it.
      await join(anna, roomName());
      await join(elsewhere, roomName());
      assert.deepEqual(wrong, [[], []]);
    });

    it("with a room: to those in it alone", async () => {
      const [anna, bob, roomId] = await two(transports);
      const carol = await connected(server, { transports, user: "carol" });
      await join(carol, roomName());
      const wrong = [anna, carol].map((socket) => collect(socket, "move"));
      const right = collect(bob, "move", ({ n }) => n);
      for (let n = 0; n < 20; n++) anna.emit("move", { roomId, n });
      await reaches(right, 20, "events");
      assert.deepEqual(right, Array.from({ length: 20 }, (_, n) => n));
      await join(anna, roomName());
      await join(carol, roomName());
      assert.deepEqual(wrong, [[], []]);
    });

    it("join and leave by the names that an application may use already", async () => {
      const roomId = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      assert.equal((await anna.timeout(20000).emitWithAck("join", roomId)).ok, true);
      assert.equal((await bob.timeout(20000).emitWithAck("join", { roomId })).ok, true);
      const event = once(bob, "news");
      anna.emit("news", { roomId, text: "x" });
      assert.equal((await event)[0].text, "x");
      assert.equal((await bob.timeout(20000).emitWithAck("leave", roomId)).ok, true);
      const late = collect(bob, "news");
      await command(anna, "news", { roomId, text: "y" });
      await join(bob, roomName());
      assert.deepEqual(late, []);
    });

    it("an ack says that it was passed on, or why not", async () => {
      const [anna, bob, roomId] = await two(transports);
      const event = once(bob, "question");
      const answer = await anna.timeout(20000).emitWithAck("question", "?", 1);
      assert.equal(answer.ok, true);
      assert.deepEqual(upTo(2)(...(await event)), ["?", 1]);
      const stranger = await connected(server, { transports, user: "stranger" });
      const refused = await stranger.timeout(20000).emitWithAck("question", { roomId });
      assert.deepEqual([refused.ok, refused.error.code], [false, "not_in_room"]);
      const error = once(stranger, "error");
      stranger.emit("question", { roomId });
      assert.equal((await error)[0].code, "not_in_room");
    });

    it("buffers arrive as buffers, wherever they stand", async () => {
      const [anna, bob, roomId] = await two(transports);
      const [small, empty, large] = [Buffer.from([0, 1, 254, 255]), Buffer.alloc(0), Buffer.alloc(40000, 0x1e)];
      const event = once(bob, "file");
      anna.emit("file", small, { name: "x", parts: [empty, { last: large }] }, "end");
      const [first, second, third] = await event;
      assert.deepEqual(Buffer.from(first), small);
      assert.deepEqual([second.name, third], ["x", "end"]);
      assert.deepEqual(Buffer.from(second.parts[0]), empty);
      assert.deepEqual(Buffer.from(second.parts[1].last), large);
      const inRoom = once(bob, "file");
      anna.emit("file", { roomId, bytes: small });
      assert.deepEqual(Buffer.from((await inRoom)[0].bytes), small);
    });

    it("buffers and texts keep their order", async () => {
      const [anna, bob] = await two(transports);
      const got = [];
      bob.on("text", (n) => got.push(n));
      bob.on("bytes", (n, bytes) => got.push(`${n}:${Buffer.from(bytes).toString()}`));
      const expected = [];
      for (let n = 0; n < 100; n += 2) {
        anna.emit("text", n);
        anna.emit("bytes", n + 1, Buffer.from(`bytes ${n}`));
        expected.push(n, `${n + 1}:bytes ${n}`);
      }
      await reaches(got, expected.length, "events");
      assert.deepEqual(got, expected);
    });

    it("an ack with buffers in the question", async () => {
      const [anna, bob] = await two(transports);
      const event = once(bob, "file");
      assert.equal((await anna.timeout(20000).emitWithAck("file", Buffer.from("abc"))).ok, true);
      assert.equal(Buffer.from((await event)[0]).toString(), "abc");
    });

    it("the built-in commands keep their meaning", async () => {
      const [anna, bob, room] = await two(transports);
      const message = once(bob, "new_message");
      const answer = await anna.timeout(20000).emitWithAck("send_message", { roomId: room, message: "still chat" });
      assert.equal(answer.ok, true);
      assert.equal((await message)[0].message, "still chat");
    });
  });
}

describe("volatile", () => {
  it("events of a client are events", async () => {
    const [anna, bob] = await two("websocket");
    const event = once(bob, "position");
    anna.volatile.emit("position", 3);
    assert.equal((await event)[0], 3);
  });
});
