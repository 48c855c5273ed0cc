// R-SDK-2: the provider gives a new token before expiry and when the server accepts the old one no longer.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { failure, World } from "./world.js";

/** A provider that counts: token-1, token-2 … */
function provider(reasons: string[]) {
  return (reason: string) => {
    reasons.push(reason);
    return Promise.resolve(`token-${reasons.length}`);
  };
}

test("token_expiring: the provider is asked, and the new token is used from then on", async () => {
  const world = new World();
  const reasons: string[] = [];
  const socket = await world.connect(provider(reasons));
  socket.says("token_expiring", { expiresAt: world.now + 60_000 });
  await world.settle();
  assert.deepEqual(reasons, ["connect", "expiring"]);
  assert.deepEqual(socket.last("refresh_token").data, { token: "token-2" });
  socket.acks(socket.last("refresh_token"), { expiresAt: world.now + 3_600_000 });
  socket.closes(1006);
  await world.pass(1000);
  world.socket.onopen?.();
  assert.deepEqual(world.socket.last("auth").data, { token: "token-2" });
  assert.equal(reasons.length, 2, "a token that holds is used again");
});

test("a refresh that fails is tried again while the old token holds", async () => {
  const world = new World();
  let asked = 0;
  const socket = await world.connect(() => {
    asked += 1;
    if (asked === 2) throw new Error("out of order");
    return `token-${asked}`;
  });
  socket.says("token_expiring", { expiresAt: world.now + 60_000 });
  await world.settle();
  assert.equal(world.of("error").at(-1).code, "token_failed");
  await world.pass(10_000);
  socket.refuses(socket.last("refresh_token"), "auth_failed");
  await world.pass(10_000);
  assert.equal(socket.of("refresh_token").length, 2);
  socket.acks(socket.last("refresh_token"), { expiresAt: world.now + 3_600_000 });
  await world.pass(60_000);
  assert.deepEqual([asked, socket.of("refresh_token").length], [4, 2]);
});

test("4003 and its kin: a new token first, then resume, with back-off", async () => {
  for (const code of [4001, 4002, 4003, 4004]) {
    const world = new World();
    const reasons: string[] = [];
    (await world.connect(provider(reasons))).closes(code);
    assert.deepEqual(world.waits, [500], "a provider of bad tokens must not be asked in a circle");
    await world.pass(500);
    assert.deepEqual(reasons, ["connect", "rejected"]);
    const socket = world.signIn();
    assert.deepEqual(socket.last("auth").data, { token: "token-2" });
    assert.equal(socket.last("resume").data["sessionId"], "sess_1");
  }
});

test("a fixed token cannot be renewed: the application is told, and may connect with another", async () => {
  const world = new World();
  (await world.connect()).closes(4003, "Token expired");
  assert.deepEqual(world.of("stopped"), [{ code: 4003, reason: "Token expired", newTokenNeeded: true }]);
  void world.client.connect("anna", "token-2");
  await world.settle();
  const socket = world.signIn();
  assert.deepEqual(socket.last("auth").data, { token: "token-2" });
  assert.equal(socket.last("resume").data["sessionId"], "sess_1", "and goes on as the same session");
});

test("a token that has ended while offline is not tried", async () => {
  const world = new World();
  const reasons: string[] = [];
  void world.client.connect("anna", provider(reasons));
  await world.settle();
  // The server's clock is an hour ahead: its times count by its clock.
  const ahead = world.now + 3_600_000;
  world.signIn({ timestamp: ahead, expiresAt: ahead + 20_000 });
  world.random = 1;
  world.socket.closes(1006);
  await world.pass(1000);
  world.socket.closes(1006);
  assert.equal(reasons.length, 1, "it still holds");
  await world.pass(2000);
  for (let n = 3; n < 6; n += 1) {
    world.socket.closes(1006);
    await world.pass(1000 * 2 ** (n - 1));
  }
  assert.deepEqual(reasons, ["connect", "connect"]);
});

test("a provider that fails is asked again with back-off; one that has no token ends it", async () => {
  const world = new World();
  let asked = 0;
  void world.client.connect("anna", () => {
    asked += 1;
    throw new Error("offline");
  });
  await world.settle();
  assert.equal(world.client.getConnectionState(), "reconnecting");
  await world.pass(500);
  await world.pass(1000);
  assert.deepEqual([asked, world.sockets.length], [3, 0]);
  const other = new World();
  const connected = other.client.connect("anna", () => null);
  assert.equal((await failure(connected)).code, "stopped");
  assert.equal(other.of("stopped")[0].newTokenNeeded, true);
});

test("a provider that never answers is asked again; its late answer does not count", async () => {
  const world = new World();
  const answers: ((token: string) => void)[] = [];
  void world.client.connect("anna", () => new Promise((answer) => answers.push(answer)));
  await world.settle();
  await world.pass(16_000);
  assert.equal(answers.length, 2);
  answers[0]?.("late");
  await world.settle();
  assert.equal(world.sockets.length, 0);
  answers[1]?.("token-2");
  await world.settle();
  world.socket.onopen?.();
  assert.deepEqual(world.socket.last("auth").data, { token: "token-2" });
});

test("an application with a fixed token refreshes it by itself", async () => {
  const world = new World();
  const socket = await world.connect();
  const refreshed = world.client.sendMessage("refresh_token", { token: "token-2" });
  socket.acks(socket.last("refresh_token"), { expiresAt: 7 });
  assert.deepEqual(await refreshed, { expiresAt: 7 });
  socket.closes(1006);
  await world.pass(1000);
  world.socket.onopen?.();
  assert.deepEqual(world.socket.last("auth").data, { token: "token-2" });
});

test("a token of another user stops before anything is sent in his name", async () => {
  const world = new World();
  const sent = world.client.sendMessage("chat_message", { roomId: "lobby", message: "mine" });
  void world.client.connect("anna", "token-of-bob");
  await world.settle();
  const socket = world.signIn({ userId: "bob" });
  assert.equal(world.of("error")[0].code, "wrong_user");
  assert.deepEqual([socket.closedBy, world.client.getConnectionState()], [1000, "disconnected"]);
  assert.equal(socket.of("chat_message").length, 0);
  void world.client.connect("bob", "token-of-bob");
  assert.equal((await failure(sent)).code, "disconnected", "another user takes over: it is not his message");
});
