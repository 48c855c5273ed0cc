// R-SDK-5, R-REC-1, R-REC-2: positions, resume, doubled offsets, gaps, `recovered`.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { failure, message, state, World } from "./world.js";

/** In room lobby at offset 3, with chat messages watched. */
async function inLobby(): Promise<World> {
  const world = new World();
  const socket = await world.connect();
  await world.join(socket, "lobby", 3);
  world.watch("chat_message", "room_state");
  return world;
}

const offsets = (world: World) => world.of("chat_message").map(({ offset }) => offset);

test("a join waits for the connection, and messages wait for the join", async () => {
  const world = new World();
  const joined = world.client.sendMessage("join_room", { roomId: "lobby", roomType: "public" });
  void world.client.sendMessage("chat_message", { roomId: "lobby", message: "1" });
  const socket = await world.connect();
  assert.deepEqual(socket.last("join_room").data, { roomId: "lobby", roomType: "public" });
  assert.equal(socket.of("chat_message").length, 0);
  socket.acks(socket.last("join_room"), { role: "member" });
  assert.deepEqual(await joined, { role: "member" });
  assert.equal(socket.of("chat_message").length, 1);
});

test("a refused join fails; a retryable one is tried again", async () => {
  const world = new World();
  const socket = await world.connect();
  const joined = world.client.sendMessage("join_room", { roomId: "secret" });
  const sent = world.client.sendMessage("chat_message", { roomId: "secret", message: "1" });
  socket.refuses(socket.last("join_room"), "overloaded", true, { retryAfterMs: 700 });
  await world.pass(699);
  assert.equal(socket.of("join_room").length, 1);
  await world.pass(1);
  assert.equal(socket.of("join_room").length, 2);
  socket.refuses(socket.last("join_room"), "access_denied");
  assert.equal((await failure(joined)).code, "access_denied");
  socket.refuses(socket.last("chat_message"), "not_in_room");
  assert.equal((await failure(sent)).code, "not_in_room", "what waited for the room learns why not");
  socket.closes(1006);
  const next = await world.comeBack();
  assert.deepEqual(next.sent.map(({ type }) => type), ["auth", "resume"], "and it is not joined again");
});

test("a join that waits 300 s fails, and the room is not joined later by surprise", async () => {
  const world = new World();
  const joined = world.client.sendMessage("join_room", { roomId: "lobby" });
  await world.pass(300_000);
  assert.equal((await failure(joined)).code, "timeout");
  const socket = await world.connect();
  assert.equal(socket.of("join_room").length, 0);
});

test("each durable event is applied once, in order; doubled offsets are dropped", async () => {
  const world = await inLobby();
  for (const offset of [4, 4, 3, 5, 1, 6]) world.socket.says("chat_message", message("lobby", offset));
  world.socket.says("chat_message", message("elsewhere", 4));
  world.socket.says("broadcast", { roomId: "lobby", event: "live" });
  assert.deepEqual(offsets(world), [4, 5, 6, 4], "rooms that were not joined here are not judged");
});

test("after a lost connection the session is resumed with all positions", async () => {
  const world = await inLobby();
  await world.join(world.socket, "second", 9);
  world.socket.says("chat_message", message("lobby", 4));
  world.socket.closes(1006);
  await world.pass(1000);
  const socket = world.signIn();
  assert.deepEqual(socket.last("resume").data, {
    sessionId: "sess_1",
    resumeToken: "resume_1",
    rooms: { lobby: { epoch: "E", offset: 4 }, second: { epoch: "E", offset: 9 } },
  });
  assert.equal(world.client.isConnected(), false, "not before the rooms are back");
  const events = [4, 5, 6].map((offset) => ({ type: "chat_message", data: message("lobby", offset) }));
  const lobby = { roomId: "lobby", recovered: true, epoch: "E", offset: 6, events };
  const second = { roomId: "second", recovered: true, epoch: "E", offset: 9, events: [] };
  world.seen = [];
  socket.acks(socket.last("resume"), { connectionId: "conn_2", resumeToken: "resume_1b", rooms: [lobby, second] });
  assert.equal(world.client.isConnected(), true);
  assert.deepEqual(offsets(world), [5, 6]);
  assert.deepEqual(world.seen.map(([type]) => type), ["state", "recovered", "chat_message", "chat_message", "recovered"]);
  socket.says("chat_message", message("lobby", 7));
  assert.deepEqual(offsets(world), [5, 6, 7]);
  assert.equal(socket.of("join_room").length, 0);
  socket.closes(1006);
  const third = await world.comeBack();
  const again = third.last("resume").data;
  assert.deepEqual([again["sessionId"], again["resumeToken"]], ["sess_1", "resume_1b"], "the session keeps its id");
});

test("not recovered: a plain join brings a snapshot, and is reported once", async () => {
  const world = await inLobby();
  world.socket.closes(1006);
  const socket = await world.comeBack([{ roomId: "lobby", recovered: false, epoch: "E", offset: 900, events: [] }]);
  assert.deepEqual(world.of("recovered"), [{ roomId: "lobby", recovered: false }]);
  assert.deepEqual(socket.last("join_room").data, { roomId: "lobby" });
  socket.says("chat_message", message("lobby", 901)); // subscribed already: the snapshot will hold it
  void world.client.sendMessage("chat_message", { roomId: "lobby", message: "1" });
  assert.equal(socket.of("chat_message").length, 0);
  socket.acks(socket.last("join_room"), { role: null });
  socket.says("room_state", state("lobby", 901, { recentMessages: [message("lobby", 901)] }));
  socket.says("chat_message", message("lobby", 902));
  assert.deepEqual(offsets(world), [902]);
  assert.equal(world.of("recovered").length, 1);
  assert.equal(socket.of("chat_message").length, 1);
});

test("not subscribed any more: the join tells why, and the room is lost", async () => {
  const world = await inLobby();
  world.socket.closes(1006);
  const socket = await world.comeBack([{ roomId: "lobby", recovered: false, epoch: null, offset: null, events: [] }]);
  socket.refuses(socket.last("join_room"), "access_denied");
  const [lost] = world.of("room_lost");
  assert.deepEqual([lost.roomId, lost.error.code], ["lobby", "access_denied"]);
  socket.closes(1006);
  assert.deepEqual((await world.comeBack()).last("resume").data["rooms"], {});
});

test("a refused resume: the rooms are joined with their positions, under the new session", async () => {
  const world = await inLobby();
  world.socket.closes(1006);
  await world.pass(1000);
  const socket = world.signIn();
  socket.refuses(socket.last("resume"), "not_found");
  assert.equal(world.client.isConnected(), true);
  assert.deepEqual(socket.last("join_room").data, { roomId: "lobby", recover: { epoch: "E", offset: 3 } });
  socket.acks(socket.last("join_room"), { role: null });
  const events = [3, 4].map((offset) => ({ type: "chat_message", data: message("lobby", offset) }));
  const recovered = state("lobby", 4, { recovered: true, events });
  delete recovered["recentMessages"];
  socket.says("room_state", recovered);
  assert.deepEqual(offsets(world), [4]);
  assert.deepEqual(world.of("recovered"), [{ roomId: "lobby", recovered: true }]);
  assert.equal("events" in world.of("room_state").at(-1), false, "they come as events, not twice");
  socket.closes(1006);
  const next = await world.comeBack();
  const resumed = next.last("resume").data;
  assert.deepEqual([resumed["sessionId"], resumed["rooms"]], ["sess_2", { lobby: { epoch: "E", offset: 4 } }]);
});

test("a gap: nothing is applied behind it before what was missed", async () => {
  const world = await inLobby();
  const { socket } = world;
  socket.says("chat_message", message("lobby", 6));
  socket.says("chat_message", message("lobby", 7));
  assert.deepEqual(socket.of("join_room").slice(1).map(({ data }) => data), [
    { roomId: "lobby", recover: { epoch: "E", offset: 3 } },
  ]);
  socket.acks(socket.last("join_room"), { role: null });
  socket.says("chat_message", message("lobby", 8));
  const events = [4, 5, 6, 7, 8].map((offset) => ({ type: "chat_message", data: message("lobby", offset) }));
  socket.says("room_state", state("lobby", 8, { recovered: true, events }));
  socket.says("chat_message", message("lobby", 9));
  assert.deepEqual(offsets(world), [4, 5, 6, 7, 8, 9]);
  assert.deepEqual(world.of("recovered"), [{ roomId: "lobby", recovered: true }]);
  assert.equal(socket.of("join_room").length, 2);
});

test("another epoch is a gap: the log was restored, and the snapshot replaces everything", async () => {
  const world = await inLobby();
  world.socket.says("chat_message", message("lobby", 2, { epoch: "F" }));
  world.socket.acks(world.socket.last("join_room"), { role: null });
  world.socket.says("room_state", state("lobby", 2, { epoch: "F", recovered: false }));
  world.socket.says("chat_message", message("lobby", 3, { epoch: "F" }));
  assert.deepEqual(world.of("recovered"), [{ roomId: "lobby", recovered: false }]);
  assert.deepEqual(offsets(world), [3]);
});

test("a connection lost during the recovery loses nothing of it", async () => {
  const world = await inLobby();
  world.socket.closes(1006);
  await world.pass(1000);
  world.signIn().closes(1006); // the resume is out, its answer is not
  const socket = await world.comeBack([{ roomId: "lobby", recovered: false, epoch: "E", offset: 500, events: [] }]);
  socket.acks(socket.last("join_room"), { role: null });
  socket.closes(1006); // the snapshot did not come
  const next = await world.comeBack();
  assert.deepEqual(next.last("resume").data["rooms"], {}, "without a position there is nothing to resume");
  assert.deepEqual(next.last("join_room").data, { roomId: "lobby" });
});

test("leaving: the room does not come back; without a connection nothing is to be sent", async () => {
  const world = await inLobby();
  await world.join(world.socket, "second", 0);
  const left = world.client.sendMessage("leave_room", { roomId: "lobby" });
  world.socket.acks(world.socket.last("leave_room"));
  await left;
  world.socket.closes(1006);
  assert.deepEqual(await world.client.sendMessage("leave_room", { roomId: "second" }), {});
  const forever = world.client.sendMessage("leave_room", { roomId: "third", permanent: true });
  assert.equal((await failure(forever)).code, "not_connected");
  assert.deepEqual((await world.comeBack()).last("resume").data["rooms"], {});
});

test("left while the resume was under way: the server is told", async () => {
  const world = await inLobby();
  world.socket.closes(1006);
  await world.pass(1000);
  const socket = world.signIn();
  void world.client.sendMessage("leave_room", { roomId: "lobby" });
  socket.acks(socket.last("resume"), {
    resumeToken: "r", rooms: [{ roomId: "lobby", recovered: true, epoch: "E", offset: 3, events: [] }],
  });
  assert.deepEqual(socket.last("leave_room").data, { roomId: "lobby" });
});

test("a closed room is not joined again", async () => {
  const world = await inLobby();
  world.socket.says("room_closed", { roomId: "lobby", reason: "removed" });
  world.socket.closes(1006);
  assert.deepEqual((await world.comeBack()).last("resume").data["rooms"], {});
});

test("a resume names at most 128 rooms; the others are joined", async () => {
  const world = new World();
  const socket = await world.connect();
  for (let n = 0; n < 130; n += 1) await world.join(socket, `room-${n}`, 1);
  socket.closes(1006);
  await world.pass(1000);
  const next = world.signIn();
  const names = Object.keys(next.last("resume").data["rooms"]);
  assert.equal(names.length, 128);
  const rooms = names.map((roomId) => ({ roomId, recovered: true, epoch: "E", offset: 1, events: [] }));
  next.acks(next.last("resume"), { resumeToken: "r", rooms });
  assert.deepEqual(next.of("join_room").map(({ data }) => data["roomId"]), ["room-128", "room-129"]);
});

test("after disconnect the same user goes on where he was; a forgotten or another one begins anew", async () => {
  for (const [user, forget, isResumed] of [["anna", false, true], ["anna", true, false], ["bob", false, false]] as const) {
    const world = await inLobby();
    world.client.disconnect({ forget });
    void world.client.connect(user, "token-1");
    await world.settle();
    const socket = world.signIn({ userId: user });
    assert.equal(socket.of("resume").length === 1, isResumed, `${user} ${forget}`);
    assert.equal(socket.of("join_room").length, 0);
  }
});

test("an application that kept its messages gives its own position", async () => {
  const world = new World();
  const socket = await world.connect();
  void world.client.sendMessage("join_room", { roomId: "lobby", recover: { epoch: "E", offset: 7 } });
  assert.deepEqual(socket.last("join_room").data, { roomId: "lobby", recover: { epoch: "E", offset: 7 } });
});

test("recoveries that keep failing ask for less: room by room, then without what was missed", async () => {
  const world = await inLobby();
  await world.join(world.socket, "second", 9);
  world.socket.closes(1006);
  const asked = [];
  for (let n = 0; n < 5; n += 1) {
    const socket = await world.signInAgain();
    asked.push(Object.keys(socket.last("resume").data["rooms"]).length);
    if (n < 2) {
      socket.closes(4101);
      continue;
    }
    socket.acks(socket.last("resume"), { resumeToken: "r", rooms: [] });
    assert.deepEqual(socket.of("join_room").map(({ data }) => data["roomId"]), ["lobby"], "one at a time");
    assert.equal("recover" in socket.last("join_room").data, n < 4);
    socket.acks(socket.last("join_room"), { role: null });
    if (n < 4) socket.closes(4101);
  }
  assert.deepEqual(asked, [2, 2, 0, 0, 0]);
  const { socket } = world;
  socket.says("room_state", state("lobby", 700));
  assert.deepEqual(socket.last("join_room").data, { roomId: "second" });
  socket.acks(socket.last("join_room"), { role: null });
  socket.says("room_state", state("second", 700));
  assert.deepEqual(world.of("recovered"), [{ roomId: "lobby", recovered: false }, { roomId: "second", recovered: false }]);
  socket.closes(1006);
  assert.equal(Object.keys((await world.comeBack()).last("resume").data["rooms"]).length, 2, "all is well again");
});
