// R-SDK-1 to R-SDK-3: states, close codes, back-off, heartbeat.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { afterClose, backOffMs } from "@throng/client";
import { failure, World } from "./world.js";

test("states go from disconnected over connecting to connected", async () => {
  const world = new World();
  assert.equal(world.client.getConnectionState(), "disconnected");
  const connected = world.client.connect("anna", "token-1");
  assert.equal(world.client.getConnectionState(), "connecting");
  await world.settle();
  assert.deepEqual([world.socket.url, world.socket.protocols], ["wss://throng.test/ws", ["throng.v1"]]);
  world.socket.onopen?.();
  assert.deepEqual(world.socket.last("auth").data, { token: "token-1" });
  assert.equal(world.client.isConnected(), false, "not before the server says so");
  world.signIn();
  await connected;
  assert.equal(world.client.isConnected(), true);
  assert.deepEqual(world.states, ["connecting", "connected"]);
});

test("connect does nothing while it is connecting, connected or reconnecting", async () => {
  const world = new World();
  await world.connect();
  await world.client.connect("anna", "token-2");
  await world.settle();
  assert.equal(world.sockets.length, 1);
  world.socket.closes(1006);
  void world.client.connect("anna", "token-2");
  await world.settle();
  assert.equal(world.sockets.length, 1, "the retry keeps its time");
});

test("disconnect closes with 1000 and leaves no timer, whatever the state", async () => {
  for (const moment of ["token", "opening", "signing in", "connected", "waiting"]) {
    const world = new World();
    const connected = world.client.connect("anna", moment === "token" ? () => new Promise(() => {}) : "token-1");
    await world.settle();
    if (moment === "signing in") world.socket.onopen?.();
    if (moment === "connected" || moment === "waiting") world.signIn();
    if (moment === "waiting") world.socket.closes(1006);
    world.client.disconnect();
    assert.equal(world.client.getConnectionState(), "disconnected", moment);
    assert.equal(world.timers, 0, moment);
    if (moment !== "token" && moment !== "waiting") {
      assert.deepEqual([world.socket.closedBy, world.socket.closeReason], [1000, "Client disconnecting"], moment);
    }
    if (moment !== "connected" && moment !== "waiting") assert.equal((await failure(connected)).code, "disconnected");
    await world.pass(100_000);
    assert.equal(world.sockets.length, moment === "token" ? 0 : 1, "nothing comes back by itself");
  }
});

test("close codes by table and band", () => {
  const expected: [string, number[]][] = [
    ["stop", [1000, 1002, 1003, 1007, 1009, 4000, 4005, 4006, 4007, 4008, 4009, 4042, 4099]],
    ["new token", [4001, 4002, 4003, 4004]],
    ["back off", [1001, 1005, 1006, 1011, 1012, 1015, 3000, 4100, 4101, 4102, 4103, 4104, 4199, 4300]],
    ["range", [4200, 4201, 4250, 4299]],
  ];
  for (const [what, codes] of expected) for (const code of codes) assert.equal(afterClose(code), what, String(code));
});

test("a code that says stop stops: nothing comes back, and the reason is told", async () => {
  const world = new World();
  const socket = await world.connect();
  socket.closes(4006, "You are banned");
  assert.equal(world.client.getConnectionState(), "disconnected");
  assert.deepEqual(world.of("stopped"), [{ code: 4006, reason: "You are banned", newTokenNeeded: false }]);
  await world.pass(1_000_000);
  assert.deepEqual([world.sockets.length, world.timers], [1, 0]);
  await world.connect();
  assert.equal(world.sockets.length, 2, "but the application may connect again");
});

test("retry n waits random(0, min(1000·2^(n−1), 30000))", async () => {
  assert.deepEqual([1, 2, 5, 6, 7, 1000].map((n) => backOffMs(n, 1)), [1000, 2000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(backOffMs(3, 0), 0);
  const world = new World();
  await world.connect();
  world.random = 0.75;
  for (const longest of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    world.socket.closes(1006);
    const { state, retryInMs } = world.of("state").at(-1);
    assert.deepEqual([state, retryInMs], ["reconnecting", 0.75 * longest]);
    assert.deepEqual(world.waits, [0.75 * longest], "one timer");
    const count = world.sockets.length;
    await world.pass(0.75 * longest - 1);
    assert.equal(world.sockets.length, count);
    await world.pass(1);
    assert.equal(world.sockets.length, count + 1);
    assert.equal(world.openSockets.length, 1, "one socket");
  }
});

test("the back-off begins anew after 10 s connected, not before", async () => {
  const world = new World();
  world.random = 0.99;
  await world.connect();
  for (const [stays, wait] of [[0, 990], [9999, 1980], [10_000, 990]] as const) {
    await world.pass(stays);
    world.socket.closes(1006);
    assert.equal(world.of("state").at(-1).retryInMs, wait, `after ${stays} ms`);
    await world.comeBack();
  }
});

test("maxReconnectAttempts ends it, once", async () => {
  let told = 0;
  const world = new World({ maxReconnectAttempts: 3, onMaxReconnectAttemptsReached: () => (told += 1) });
  const connected = world.client.connect("anna", "token-1");
  await world.settle();
  for (let n = 0; n < 4; n += 1) {
    assert.equal(told, 0);
    world.socket.closes(1006);
    await world.pass(10_000);
  }
  assert.deepEqual([told, world.sockets.length, world.timers], [1, 4, 0]);
  assert.equal(world.client.getConnectionState(), "disconnected");
  assert.equal((await failure(connected)).code, "stopped");
});

test("server_closing: waits a random time in the range, whatever close follows", async () => {
  for (const code of [4200, 4201, 1006]) {
    const world = new World();
    const socket = await world.connect();
    socket.says("server_closing", { retryMinMs: 2000, retryMaxMs: 6000 });
    world.random = 0.25;
    socket.closes(code);
    assert.deepEqual(world.waits, [3000]);
    await world.pass(3000);
    world.socket.closes(1006);
    assert.deepEqual(world.waits, [500], "the range counts once; then the back-off");
  }
  const untold = new World();
  (await untold.connect()).closes(4200);
  assert.deepEqual(untold.waits, [5000], "without a range: 0 to 10 s");
  const odd = new World();
  const socket = await odd.connect();
  socket.says("server_closing", { retryMinMs: 7000, retryMaxMs: "soon" });
  socket.closes(4200);
  assert.ok((odd.waits[0] ?? 0) >= 7000);
});

test("heartbeat each 30000 ms; no frame within 10000 ms after it: the link is dropped", async () => {
  const world = new World();
  const socket = await world.connect();
  await world.pass(29_999);
  assert.equal(socket.of("heartbeat").length, 0);
  await world.pass(1);
  assert.equal(socket.last("heartbeat").data["timestamp"], world.now);
  await world.pass(9999);
  socket.says("broadcast", { roomId: "lobby" }); // any frame will do
  await world.pass(20_001);
  assert.equal(socket.of("heartbeat").length, 2, "30 s after the first");
  await world.pass(9999);
  assert.equal(world.client.isConnected(), true);
  await world.pass(1);
  assert.equal(socket.closedBy, "cut");
  assert.equal(world.client.getConnectionState(), "reconnecting");
  socket.says("broadcast", {});
  socket.closes(4006);
  assert.equal(world.client.getConnectionState(), "reconnecting", "what the dropped link still says counts no more");
  await world.comeBack();
  assert.equal(world.waits.filter((ms) => ms > 10_000).length, 1, "one heartbeat");
});

test("the server's interval is taken, the application's goes first", async () => {
  const world = new World();
  void world.client.connect("anna", "token-1");
  await world.settle();
  world.signIn({ heartbeatMs: 4000 });
  await world.pass(4000);
  assert.equal(world.socket.of("heartbeat").length, 1);
  await world.pass(9999);
  assert.equal(world.client.isConnected(), true, "a short interval does not move the answer's deadline");
  await world.pass(1);
  assert.equal(world.client.isConnected(), false);
  const other = new World({ heartbeatMs: 500 });
  await other.connect();
  await other.pass(500);
  assert.equal(other.socket.of("heartbeat").length, 1);
});

test("a connection that does not get on is given up, at whatever point it rests", async () => {
  for (const rest of ["opening", "signing in", "resuming"]) {
    const world = new World();
    await world.connect();
    world.socket.closes(1006);
    await world.pass(1000);
    const socket = world.socket;
    if (rest !== "opening") socket.onopen?.();
    if (rest === "resuming") socket.says("connection_established", world.established());
    await world.pass(14_499);
    assert.equal(socket.closedBy, null, rest);
    await world.pass(501);
    assert.equal(socket.closedBy, "cut", rest);
    assert.deepEqual([world.client.getConnectionState(), world.openSockets.length], ["reconnecting", 0], rest);
  }
});

test("retryNow ends the wait and makes no second socket", async () => {
  const world = new World();
  await world.connect();
  world.socket.closes(1006);
  world.client.retryNow();
  world.client.retryNow();
  await world.pass(5000);
  assert.equal(world.sockets.length, 2);
});

test("a socket that cannot be made counts as a lost connection", async () => {
  const world = new World({
    WebSocket: class {
      constructor() {
        throw new Error("forbidden here");
      }
    } as never,
  });
  void world.client.connect("anna", "token-1");
  await world.settle();
  assert.equal(world.client.getConnectionState(), "reconnecting");
  assert.throws(() => new World({ url: "http://throng.test/" }), TypeError);
});
