// R-SDK-5, R-CLU-7: `migrate` opens the new connection, then closes the old.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { failure, type FakeSocket, message, World } from "./world.js";

const NEW = "wss://other.test/ws";
const told = { type: "server_migration", newServerUrl: NEW, migrationToken: "secret", timestamp: 0 };

async function migrating(): Promise<{ world: World; old: FakeSocket; next: FakeSocket }> {
  const world = new World();
  const old = await world.connect();
  await world.join(old, "lobby", 3);
  world.watch("chat_message");
  world.seen = [];
  old.says("migrate", told);
  return { world, old, next: world.socket };
}

/** The new connection, up to its resume. */
function upTo(world: World, next: FakeSocket): void {
  next.onopen?.();
  assert.deepEqual(next.last("auth").data, { token: "token-1", migrationToken: "secret" });
  next.says("connection_established", world.established());
}

const lobby = (offset: number, ...missed: number[]) => ({
  roomId: "lobby", recovered: true, epoch: "E", offset,
  events: missed.map((each) => ({ type: "chat_message", data: message("lobby", each) })),
});

test("the old connection serves until the new one has resumed; nothing is doubled or lost on the way", async () => {
  const { world, old, next } = await migrating();
  assert.equal(next.url, NEW);
  upTo(world, next);
  assert.deepEqual(next.last("resume").data["rooms"], { lobby: { epoch: "E", offset: 3 } });
  old.says("chat_message", message("lobby", 4));
  const sent = world.client.sendMessage("chat_message", { roomId: "lobby", message: "on its way" });
  assert.equal(old.of("chat_message").length, 1, "the old one serves");
  assert.equal(old.isOpen, true);
  next.acks(next.last("resume"), { resumeToken: "r", rooms: [lobby(5, 4, 5)] });
  assert.deepEqual([old.closedBy, old.closeReason], [1000, "Client migrated"]);
  assert.deepEqual(world.of("chat_message").map(({ offset }) => offset), [4, 5]);
  assert.equal(next.last("chat_message").id, old.last("chat_message").id, "repeated under its id");
  next.acks(next.last("chat_message"), { offset: 6 });
  assert.deepEqual(await sent, { offset: 6 });
  assert.deepEqual(world.states, [], "connected all the time");
  old.closes(4009);
  assert.equal(world.client.isConnected(), true, "how the old one ends does not matter");
  await world.pass(30_000);
  assert.deepEqual([old.of("heartbeat").length, next.of("heartbeat").length], [0, 1], "one heartbeat");
});

test("the old one may end before the new one is up, with any code", async () => {
  for (const code of [4009, 4201, 1006]) {
    const { world, old, next } = await migrating();
    upTo(world, next);
    old.closes(code);
    assert.equal(world.client.getConnectionState(), "reconnecting");
    await world.pass(5000);
    assert.equal(world.sockets.length, 2, "no third connection");
    next.acks(next.last("resume"), { resumeToken: "r", rooms: [lobby(3)] });
    assert.equal(world.client.isConnected(), true);
    assert.deepEqual(world.states, ["reconnecting", "connected"]);
  }
});

test("a new server that refuses changes nothing; the next connection goes to the usual address", async () => {
  const { world, old, next } = await migrating();
  next.closes(4002);
  assert.equal(world.client.isConnected(), true);
  assert.deepEqual([old.isOpen, world.states], [true, []]);
  old.closes(4201);
  await world.pass(10_000);
  assert.equal(world.socket.url, "wss://throng.test/ws");
});

test("a new server that is lost behind its resume, which closes the old connection: the session goes on", async () => {
  const { world, old, next } = await migrating();
  upTo(world, next);
  next.closes(1006);
  assert.equal(world.client.isConnected(), true);
  old.closes(4009);
  assert.deepEqual([world.of("stopped"), world.client.getConnectionState()], [[], "reconnecting"]);
  const socket = await world.comeBack([lobby(3)]);
  socket.closes(4009);
  assert.equal(world.client.getConnectionState(), "disconnected", "the next time it is somebody else");
});

test("a new server that takes us for another user is left at once", async () => {
  const { world, old, next } = await migrating();
  next.onopen?.();
  next.says("connection_established", world.established({ userId: "bob" }));
  assert.deepEqual([next.closedBy, old.isOpen, world.client.isConnected()], ["cut", true, true]);
});

test("both lost: the usual way back", async () => {
  const { world, old, next } = await migrating();
  old.closes(1006);
  next.closes(1006);
  assert.equal(world.of("state").at(-1).retryInMs, 500);
  await world.pass(500);
  assert.equal(world.openSockets.length, 1);
});

test("a new server that does not answer is given up after 30 s", async () => {
  const { world, old, next } = await migrating();
  next.onopen?.();
  await world.pass(29_999);
  assert.equal(next.closedBy, null);
  await world.pass(1);
  assert.equal(next.closedBy, "cut");
  assert.deepEqual([old.isOpen, world.client.isConnected()], [true, true]);
});

test("no second migration beside the first; no way from wss to ws; disconnect closes both", async () => {
  const { world, old, next } = await migrating();
  old.says("migrate", { ...told, newServerUrl: "wss://third.test/ws" });
  assert.equal(world.sockets.length, 2);
  const sent = world.client.sendMessage("get_history", { roomId: "lobby" });
  world.client.disconnect();
  assert.deepEqual([old.closedBy, next.closedBy, world.timers], [1000, 1000, 0]);
  assert.equal((await failure(sent)).code, "disconnected");
  const other = new World();
  const socket = await other.connect();
  for (const newServerUrl of ["ws://other.test/ws", "https://other.test/", 7, undefined]) {
    socket.says("migrate", { ...told, newServerUrl });
  }
  assert.equal(other.sockets.length, 1);
});
