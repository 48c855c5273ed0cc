// R-SDK-1: a handler per event; unknown types go to onUnknown; nothing that a handler or a server does is thrown.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { World } from "./world.js";

test("a handler gets its events until it is taken away", async () => {
  const world = new World();
  const socket = await world.connect();
  const seen: string[] = [];
  const off = world.client.on("chat_message", ({ message }) => seen.push(message));
  world.client.on("chat_message", ({ message }) => seen.push(message.toUpperCase()));
  socket.says("chat_message", { message: "a" });
  off();
  off();
  socket.says("chat_message", { message: "b" });
  assert.deepEqual(seen, ["a", "A", "B"]);
});

test("unknown types go to onUnknown, unless a handler knows them", async () => {
  const unknown: unknown[] = [];
  const world = new World({ onUnknown: (event) => unknown.push(event) });
  const socket = await world.connect();
  socket.says("poll_updated", { pollId: "p" });
  socket.says("typing_indicator", { roomId: "lobby" }); // known, and nobody listens
  world.client.on("poll_updated", () => {});
  socket.says("poll_updated", { pollId: "q" });
  assert.deepEqual(unknown, [{ type: "poll_updated", data: { pollId: "p" } }]);
});

test("a server's event cannot pass for one of the client's own", async () => {
  const world = new World();
  const socket = await world.connect();
  world.seen = [];
  for (const type of ["stopped", "state", "settled", "__proto__", "constructor"]) socket.says(type, { code: 1 });
  assert.deepEqual(world.seen.map(([type]) => type), ["unknown", "unknown", "unknown", "unknown", "unknown"]);
});

test("what a handler throws is told to onError, and the client goes on", async (context) => {
  const warned = context.mock.method(console, "warn", () => {});
  const world = new World();
  const socket = await world.connect();
  const cause = new Error("mine");
  const seen: unknown[] = [];
  world.client.on("broadcast", () => {
    throw cause;
  });
  world.client.on("broadcast", () => Promise.reject(cause));
  world.client.on("broadcast", (data) => seen.push(data));
  socket.says("broadcast", { n: 1 });
  await world.settle();
  assert.deepEqual(seen, [{ n: 1 }]);
  assert.deepEqual(world.of("error").map(({ code, cause }) => [code, cause]), [["handler_failed", cause], ["handler_failed", cause]]);
  world.client.on("error", () => {
    throw new Error("mine, too");
  });
  socket.says("broadcast", { n: 2 });
  assert.equal(world.client.isConnected(), true);
  await world.settle();
  assert.equal(warned.mock.callCount(), 2, "a failing error handler is at least seen on the console");
});

test("what the server must not send is told and passed over", async () => {
  const world = new World();
  const socket = await world.connect();
  const odd = ["", "{", "null", "[]", '"text"', "7", '{"type":7}', "{}"];
  for (const data of [...odd, new ArrayBuffer(4), undefined]) socket.onmessage?.({ data });
  assert.equal(world.of("error").length, odd.length + 2);
  const types = ["ack", "error", "room_state", "room_closed", "server_closing", "token_expiring", "migrate", "chat_message"];
  for (const type of types) {
    for (const data of [null, [], 7, {}, { requestId: 7, roomId: 7, offset: "x", rooms: 3, result: [] }]) {
      socket.onmessage?.({ data: JSON.stringify({ type, data }) });
    }
  }
  await world.settle();
  assert.equal(world.client.isConnected(), true);
});

test("odd answers to a resume are survived", async () => {
  for (const rooms of [undefined, 7, [null, 7, {}, { roomId: "lobby" }, { roomId: "lobby", recovered: true, epoch: "E", offset: 4, events: 7 }]]) {
    const world = new World();
    await world.join(await world.connect(), "lobby", 3);
    world.socket.closes(1006);
    await world.pass(1000);
    const socket = world.signIn();
    socket.acks(socket.last("resume"), { rooms });
    assert.equal(world.client.isConnected(), true);
  }
});

test("handlers may use the client: what they ask comes after what is being told", async () => {
  const world = new World();
  const order: string[] = [];
  world.client.on("state", ({ state }) => {
    order.push(state);
    if (state === "connected") world.client.disconnect();
    order.push(`${state} told`);
  });
  await world.connect();
  assert.deepEqual(order, ["connecting", "connecting told", "connected", "connected told", "disconnected", "disconnected told"]);
  assert.equal(world.socket.closedBy, 1000);
});

test("connecting again from the stopped handler works", async () => {
  const world = new World();
  let again: Promise<void> | null = null;
  world.client.on("stopped", () => (again = world.client.connect("anna", "token-2")));
  (await world.connect()).closes(4003);
  await world.settle();
  const socket = world.signIn();
  socket.acks(socket.last("resume"), { rooms: [] });
  await again;
  assert.equal(world.client.isConnected(), true);
});
