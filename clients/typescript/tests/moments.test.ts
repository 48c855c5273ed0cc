// Against the real server: the connection fails at one chosen moment, and nothing acknowledged is lost, doubled or turned round.
import { strict as assert } from "node:assert";
import { before, test } from "node:test";
import type { Options } from "@throng/client";
import { type Direction, type Fate, Proxy } from "./proxy.js";
import { Reader } from "./reader.js";
import { Server, until } from "./server.js";

const server = new Server();
before(() => server.start());

let roomCount = 0;
/** The back-off as it is, but never long. */
const quick: Partial<Options> = { random: () => 0.02 };

/** Anna behind a proxy, bob with a straight line, both in a fresh room. */
async function meeting(options: Partial<Options> = quick) {
  const room = `room-${(roomCount += 1)}`;
  const proxy = await new Proxy(() => server.port).start();
  const anna = await new Reader("anna", proxy.url, options).enter(server.token("anna"), room);
  const bob = await new Reader("bob", `ws://127.0.0.1:${server.port}/ws`, quick).enter(server.token("bob"), room);
  const same = async (...texts: string[]) => {
    for (const reader of [anna, bob]) {
      await until(`${reader.userId} shows ${texts}, not ${reader.texts(room)}`, () => reader.texts(room).length >= texts.length);
      assert.deepEqual(reader.texts(room), texts, reader.userId);
    }
    assert.deepEqual((await bob.history(room)).map(({ message }) => message), texts);
  };
  return { room, proxy, anna, bob, same };
}

const isMessage = (direction: Direction, text: string) => direction === "up" && text.includes('"type":"chat_message"');
const isAck = (direction: Direction, text: string) => direction === "down" && text.includes('"messageId"');
const isEvent = (direction: Direction, text: string) => direction === "down" && text.includes('"type":"chat_message"');

const moments: [string, Fate, (direction: Direction, text: string) => boolean, boolean][] = [
  ["in the middle of a message on its way up", "tear", isMessage, false],
  ["before the message arrives", "lose", isMessage, false],
  ["between message and ack", "deliver and cut", isMessage, true],
  ["in the middle of the ack", "tear", isAck, true],
  ["instead of the ack", "lose", isAck, true],
  ["between ack and event", "deliver and cut", isAck, true],
  ["in the middle of the event", "tear", isEvent, true],
];
for (const [name, fate, isIt, isStored] of moments) {
  test(`cut ${name}`, async () => {
    const { room, proxy, anna, bob, same } = await meeting();
    const first = await anna.say(room, "1");
    const met = proxy.once(fate, isIt);
    const second = anna.say(room, "2");
    await met;
    if (isStored) await until("bob has it", () => bob.texts(room).includes("2"));
    await bob.say(room, isStored ? "3" : "between");
    assert.equal((await second).offset, first.offset + (isStored ? 1 : 2));
    assert.equal((await anna.say(room, "4")).duplicate, false);
    await (isStored ? same("1", "2", "3", "4") : same("1", "between", "2", "4"));
    assert.deepEqual(anna.recovered, [true]);
    assert.ok(proxy.connections >= 2);
  });
}

const recoveries: [string, Fate, (direction: Direction, text: string) => boolean][] = [
  ["the auth is torn", "tear", (direction, text) => direction === "up" && text.includes('"type":"auth"')],
  ["the greeting is lost", "lose", (_, text) => text.includes('"connection_established"')],
  ["the resume is torn", "tear", (direction, text) => direction === "up" && text.includes('"type":"resume"')],
  ["the resume arrives, its answer does not", "deliver and cut", (_, text) => text.includes('"type":"resume"')],
  ["the resume's answer is torn", "tear", (direction, text) => direction === "down" && text.includes('"resumeToken"') && text.includes('"ack"')],
];
for (const [name, fate, isIt] of recoveries) {
  test(`cut during the recovery: ${name}`, async () => {
    const { room, proxy, anna, bob, same } = await meeting();
    await anna.say(room, "1");
    proxy.cutAll();
    const met = proxy.once(fate, isIt);
    const waiting = anna.say(room, "3"); // on the dead line, or kept for the next
    await bob.say(room, "2");
    await met;
    await waiting;
    assert.deepEqual(anna.recovered, [true]);
    await same("1", "2", "3");
  });
}

test("half open: the heartbeat finds out, whichever direction is dead", async () => {
  for (const direction of ["up", "down"]) {
    const { room, proxy, anna, bob, same } = await meeting({ ...quick, heartbeatMs: 100, heartbeatTimeoutMs: 300 });
    await anna.say(room, "1");
    await proxy.once("freeze", (each) => each === direction);
    await bob.say(room, "2");
    await anna.say(room, "3");
    await same("1", "2", "3");
    assert.deepEqual(anna.recovered, [true]);
  }
});

test("more was missed than is replayed: it is said, and a snapshot follows", async () => {
  const { room, proxy, anna, bob } = await meeting();
  await anna.say(room, "before");
  const isResume = (direction: Direction, text: string) => direction === "up" && text.includes('"type":"resume"');
  proxy.rule = (direction, text) => (isResume(direction, text) ? "lose" : "pass");
  proxy.cutAll();
  await Promise.all(Array.from({ length: 301 }, (_, n) => bob.say(room, String(n))));
  proxy.rule = () => "pass";
  const waiting = anna.say(room, "after");
  await waiting;
  await until("the end", () => anna.texts(room).at(-1) === "after");
  assert.deepEqual(anna.recovered, [false]);
  const all = await bob.history(room);
  assert.equal(all.length, 303);
  assert.deepEqual(anna.texts(room), all.slice(-anna.texts(room).length).map(({ message }) => message));
});

test("SIGKILL and restart: what was acknowledged is there, what was not is sent once", async () => {
  const { room, anna, bob, same } = await meeting();
  await anna.say(room, "1");
  await bob.say(room, "2");
  const third = anna.say(room, "3"); // perhaps stored, perhaps not
  await server.kill("SIGKILL");
  await until("both notice", () => !anna.client.isConnected() && !bob.client.isConnected());
  const fourth = anna.say(room, "4");
  await server.start();
  await third;
  await fourth;
  await same("1", "2", "3", "4");
  assert.deepEqual([anna.recovered, bob.recovered], [[true], [true]]);
});

test("drain and restart: the range is waited, and nothing is lost", async () => {
  const { room, anna, bob, same } = await meeting();
  const closing: number[] = [];
  anna.client.on("server_closing", ({ retryMaxMs }) => closing.push(retryMaxMs));
  const sent = Promise.all(["1", "2", "3"].map((text) => anna.say(room, text)));
  await until("one is on its way", () => anna.client.pending().length < 3);
  assert.equal(await server.kill("SIGTERM"), 0);
  assert.deepEqual(closing, [10_000]);
  await server.start();
  await sent;
  await bob.say(room, "4");
  await same("1", "2", "3", "4");
});

test("a token that ends is renewed in time", async () => {
  const room = `room-${(roomCount += 1)}`;
  let asked = 0;
  // The first one lives for less than the minute of warning.
  const provider = () => server.token("dora", (asked += 1) === 1 ? "40s" : "1h");
  const dora = await new Reader("dora", `ws://127.0.0.1:${server.port}/ws`, quick).enter(provider, room);
  await until("the provider was asked", () => asked === 2);
  await dora.say(room, "1");
  assert.deepEqual([dora.client.isConnected(), dora.errors.length], [true, 0]);
});

test("a bad token: refused with the reason, and no further attempt", async () => {
  const reader = new Reader("eve", `ws://127.0.0.1:${server.port}/ws`, quick);
  const stopped: unknown[] = [];
  reader.client.on("stopped", (data) => stopped.push(data));
  await assert.rejects(reader.client.connect("eve", "no-token"), { code: "stopped" });
  assert.deepEqual(stopped, [{ code: 4002, reason: "Authentication failed", newTokenNeeded: true }]);
});
