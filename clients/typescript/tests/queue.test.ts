// R-SDK-4: durable commands wait, go in order under their first ids, and are repeated until answered.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import type { CommandStorage } from "@throng/client";
import { failure, message, type SentFrame, World } from "./world.js";

const chat = (text: string, roomId = "lobby") => ({ roomId, message: text });
const texts = (frames: SentFrame[]) => frames.map((frame) => frame.data["message"]);

test("what is sent before connecting goes out in order after it, under its own ids", async () => {
  const world = new World();
  const first = world.client.sendMessage("chat_message", chat("1"), { id: "own-1" });
  const second = world.client.sendMessage("send_message", chat("2"));
  const socket = await world.connect();
  assert.deepEqual(texts(socket.of("chat_message")), ["1"]);
  assert.equal(socket.last("chat_message").id, "own-1");
  assert.equal(socket.of("send_message").length, 0, "one at a time per room keeps the order, whatever is refused");
  socket.acks(socket.last("chat_message"), { offset: 1 });
  socket.acks(socket.last("send_message"), { offset: 2 });
  assert.deepEqual([await first, await second], [{ offset: 1 }, { offset: 2 }]);
  assert.deepEqual(world.client.pending(), []);
});

test("rooms do not wait for each other", async () => {
  const world = new World();
  const socket = await world.connect();
  for (const room of ["a", "b", "a"]) void world.client.sendMessage("chat_message", chat("x", room));
  assert.deepEqual(socket.of("chat_message").map((frame) => frame.data["roomId"]), ["a", "b"]);
});

test("an unanswered message is repeated on the next connection, byte for byte", async () => {
  const world = new World();
  const socket = await world.connect();
  const data = { ...chat("1"), metadata: { n: 1 } };
  const sent = world.client.sendMessage("chat_message", data);
  data.message = "changed by the application";
  data.metadata.n = 2;
  const before = socket.last("chat_message");
  socket.closes(1006);
  const next = await world.comeBack();
  const again = next.last("chat_message");
  assert.deepEqual([again.id, again.data], [before.id, before.data]);
  next.acks(again, { offset: 1, duplicate: true });
  assert.deepEqual(await sent, { offset: 1, duplicate: true });
});

test("the message itself settles it if the ack was lost", async () => {
  const world = new World();
  const socket = await world.connect();
  await world.join(socket, "lobby", 0);
  const sent = world.client.sendMessage("chat_message", chat("1"));
  const { id } = socket.last("chat_message");
  socket.closes(1006);
  const own = message("lobby", 1, { userId: "anna", clientId: id, timestamp: 5 });
  const other = message("lobby", 2, { userId: "bob", clientId: id });
  const events = [own, other].map((data) => ({ type: "chat_message", data }));
  const next = await world.comeBack([{ roomId: "lobby", recovered: true, epoch: "E", offset: 2, events }]);
  assert.deepEqual(await sent, { messageId: "msg_1", offset: 1, epoch: "E", timestamp: 5, duplicate: true });
  assert.equal(next.of("chat_message").length, 0);
});

test("a retryable refusal is tried again after its time, and nothing of the room overtakes it", async () => {
  const world = new World();
  const socket = await world.connect();
  const first = world.client.sendMessage("chat_message", chat("1"));
  void world.client.sendMessage("chat_message", chat("2"));
  const { id } = socket.last("chat_message");
  socket.refuses(socket.last("chat_message"), "rate_limited", true, { retryAfterMs: 5000 });
  const { id: delayed, error, retryInMs } = world.of("delayed")[0];
  assert.deepEqual([delayed, error.code, retryInMs], [id, "rate_limited", 5000]);
  await world.pass(4999);
  assert.deepEqual(texts(socket.of("chat_message")), ["1"]);
  await world.pass(1);
  assert.deepEqual(texts(socket.of("chat_message")), ["1", "1"]);
  assert.equal(socket.last("chat_message").id, id);
  socket.acks(socket.last("chat_message"), { offset: 1 });
  await first;
  assert.deepEqual(texts(socket.of("chat_message")), ["1", "1", "2"]);
});

test("any other refusal fails with the server's code, and the next goes on", async () => {
  const world = new World();
  const socket = await world.connect();
  const first = world.client.sendMessage("chat_message", chat(" "));
  void world.client.sendMessage("chat_message", chat("2"));
  socket.refuses(socket.last("chat_message"), "invalid_argument", false, { field: "message" });
  const error = await failure(first);
  assert.deepEqual([error.name, error.code, error.field, error.retryable], ["ThrongError", "invalid_argument", "message", false]);
  assert.deepEqual(texts(socket.of("chat_message")), [" ", "2"]);
});

test("the queue is bounded: one more is refused", async () => {
  const world = new World({ queueMax: 2 });
  for (const text of ["1", "2"]) void world.client.sendMessage("chat_message", chat(text));
  assert.equal((await failure(world.client.sendMessage("chat_message", chat("3")))).code, "queue_full");
  assert.equal(world.client.pending().length, 2);
  const standard = new World();
  for (let n = 0; n < 1000; n += 1) void standard.client.sendMessage("chat_message", chat(String(n)));
  assert.equal(standard.client.pending().length, 1000);
  assert.equal((await failure(standard.client.sendMessage("chat_message", chat("1000")))).code, "queue_full");
});

test("300 s old: timeout, with or without a connection", async () => {
  const world = new World();
  const early = world.client.sendMessage("chat_message", chat("1"));
  await world.pass(100_000);
  const late = world.client.sendMessage("chat_message", chat("2"));
  let isOver = false;
  void early.catch(() => (isOver = true));
  await world.pass(199_999);
  assert.equal(isOver, false);
  await world.pass(1);
  assert.equal((await failure(early)).code, "timeout");
  assert.equal(world.client.pending().length, 1);
  await world.pass(100_000);
  assert.equal((await failure(late)).code, "timeout");
  assert.equal(world.timers, 0);
});

test("who was on the wire is not repeated when the server may soon forget its id", async () => {
  const world = new World();
  const socket = await world.connect();
  const sent = world.client.sendMessage("chat_message", chat("1"));
  for (let n = 0; n < 269; n += 1) {
    await world.pass(1000);
    socket.says("broadcast", {}); // the link lives, the answer does not come
  }
  socket.closes(1006);
  world.random = 1;
  const next = await world.comeBack();
  assert.ok(world.now - 1_700_000_000_000 >= 270_000);
  assert.equal(next.of("chat_message").length, 0);
  await world.pass(60_000);
  assert.equal((await failure(sent)).code, "timeout");
});

test("live commands never queue; requests fail with the connection", async () => {
  const world = new World();
  for (const type of ["broadcast", "answer", "typing_start", "typing_stop", "activity"]) {
    assert.equal((await failure(world.client.sendMessage(type, { roomId: "lobby" }))).code, "not_connected", type);
  }
  assert.equal((await failure(world.client.sendMessage("get_history", { roomId: "lobby" }))).code, "not_connected");
  const socket = await world.connect();
  assert.deepEqual(socket.sent.map(({ type }) => type), ["auth"]);
  assert.equal(await world.client.sendMessage("typing_start", { roomId: "lobby" }), undefined, "done when written");
  socket.refuses(socket.last("typing_start"), "not_in_room");
  assert.equal(world.of("error")[0].code, "not_in_room");
  const asked = world.client.sendMessage("get_history", { roomId: "lobby" });
  socket.closes(1006);
  assert.equal((await failure(asked)).code, "connection_lost");
  const next = await world.comeBack();
  assert.deepEqual(next.sent.map(({ type }) => type), ["auth", "resume"]);
});

test("server_closing: durable commands wait for the next connection", async () => {
  const world = new World();
  const socket = await world.connect();
  socket.says("server_closing", { retryMinMs: 0, retryMaxMs: 0 });
  void world.client.sendMessage("chat_message", chat("1"));
  assert.equal(socket.of("chat_message").length, 0);
  socket.closes(4200);
  assert.deepEqual(texts((await world.comeBack()).of("chat_message")), ["1"]);
});

test("disconnect fails what waits", async () => {
  const world = new World();
  const socket = await world.connect();
  const waiting = [
    world.client.sendMessage("chat_message", chat("1")),
    world.client.sendMessage("join_room", { roomId: "lobby" }),
    world.client.sendMessage("get_history", { roomId: "lobby" }),
  ];
  world.client.disconnect();
  for (const each of waiting) assert.equal((await failure(each)).code, "disconnected");
  assert.equal(socket.closedBy, 1000);
  const next = await world.connect();
  next.acks(next.last("resume"), { rooms: [] });
  assert.deepEqual(next.sent.map(({ type }) => type), ["auth", "resume"], "nothing of it comes later");
});

test("what can never be sent is refused at once", async () => {
  const world = new World();
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  for (const data of [circle, [1], "text", 7, { n: 1n }]) {
    assert.equal((await failure(world.client.sendMessage("chat_message", data))).code, "invalid_argument");
  }
  for (const own of ["auth", "resume"]) {
    assert.equal((await failure(world.client.sendMessage(own, {}))).code, "invalid_argument");
  }
  const limit = 65_536;
  const frame = (text: string) => JSON.stringify({ id: "x", type: "chat_message", data: chat(text), timestamp: world.now });
  const room = limit - frame("").length;
  void world.client.sendMessage("chat_message", chat("ä".repeat(Math.floor(room / 2))), { id: "x" });
  assert.equal(world.client.pending().length, 1, "as much as the server takes");
  const over = world.client.sendMessage("chat_message", chat("🐝".repeat(Math.floor(room / 4) + 1)), { id: "y" });
  assert.equal((await failure(over)).code, "message_too_long", "one more would end the connection with 1009");
  assert.equal((await failure(world.client.sendMessage("chat_message", chat("2"), { id: "x" }))).code, "conflict");
  assert.equal(world.client.pending().length, 1);
});

/** As localStorage, but with keys in another order than they were set. */
class MemoryStorage implements CommandStorage {
  items = new Map<string, string>();
  get length(): number {
    return this.items.size;
  }
  key(index: number): string | null {
    return [...this.items.keys()].reverse()[index] ?? null;
  }
  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    this.items.set(key, value);
  }
  removeItem(key: string): void {
    this.items.delete(key);
  }
}

test("storage: the queue outlives the page, in order and with its ids", async () => {
  const storage = new MemoryStorage();
  const world = new World({ storage });
  void world.client.sendMessage("chat_message", chat("0"));
  const socket = await world.connect();
  for (const text of ["1", "2"]) void world.client.sendMessage("chat_message", chat(text));
  const ids = world.client.pending().map(({ id }) => id);
  socket.acks(socket.last("chat_message"), { offset: 1 });
  assert.equal(storage.length, 2, "what is acknowledged is not kept");
  // The page is gone, without a word. What else lies in the storage is not ours.
  storage.setItem("throng:anna:broken", "{");
  storage.setItem("throng:anna:other", '{"id":1}');
  storage.setItem("throng:bob:x", storage.getItem(`throng:anna:${ids[1]}`) ?? "");
  const later = new World({ storage });
  later.now = world.now + 1000;
  void later.client.sendMessage("chat_message", chat("3"));
  const next = await later.connect();
  assert.equal(next.of("chat_message").length, 0, "this page is not in the room yet: they would come back with not_in_room");
  await later.join(next, "lobby", 1);
  for (let n = 0; n < 3; n += 1) next.acks(next.last("chat_message"), { offset: n + 2 });
  assert.deepEqual(texts(next.of("chat_message")), ["1", "2", "3"]);
  assert.deepEqual(next.of("chat_message").slice(0, 2).map(({ id }) => id), ids.slice(1));
  assert.deepEqual(later.of("settled").map(({ data, error }) => [data.message, error]), [["1", null], ["2", null], ["3", null]]);
  assert.deepEqual([...storage.items.keys()], ["throng:anna:broken", "throng:anna:other", "throng:bob:x"]);
});

test("storage: what is too old by then fails, and a storage that fails does no harm", async () => {
  const storage = new MemoryStorage();
  const world = new World({ storage });
  await world.connect();
  void world.client.sendMessage("chat_message", chat("1"));
  const later = new World({ storage });
  later.now = world.now + 300_000;
  const socket = await later.connect();
  await later.pass(0);
  assert.equal(later.of("settled")[0].error.code, "timeout");
  assert.deepEqual([socket.of("chat_message").length, storage.length], [0, 0]);
  storage.setItem = () => {
    throw new Error("full");
  };
  void later.client.sendMessage("chat_message", chat("2"));
  assert.equal(later.of("error")[0].code, "storage_failed");
  assert.deepEqual(texts(socket.of("chat_message")), ["2"]);
});
