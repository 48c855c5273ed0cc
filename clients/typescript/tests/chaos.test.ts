// Against the real server: a seeded storm of every fault at once, and two SIGKILLs. Hundreds of messages; then the books
// are compared: acks, the server's history, and what each reader was shown.
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { allPass, type Fate, Proxy } from "./proxy.js";
import { Reader } from "./reader.js";
import { Server, sleep, until } from "./server.js";

const MESSAGES = 240; // of each sender
const ROOMS = ["red", "blue"];
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

/** Mulberry32: small, seeded, good enough. */
function generator(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Acked {
  id: string;
  messageId: string;
  offset: number;
}

class Writer extends Reader {
  /** Room → acks in the order in which the messages were written. */
  readonly acked = new Map<string, Acked[]>(ROOMS.map((room) => [room, []]));
  wrote = 0;

  async write(random: () => number): Promise<void> {
    const answers: Promise<void>[] = [];
    for (let n = 0; n < MESSAGES; n += 1) {
      const room = ROOMS[Math.floor(random() * ROOMS.length)] ?? "";
      const id = `${this.userId}-${n}`;
      const sent = this.client.sendMessage("chat_message", { roomId: room, message: `${id} ${"x".repeat(random() * 400)}` }, { id });
      const list = this.acked.get(room) ?? [];
      const place = list.push({ id, messageId: "", offset: 0 }) - 1;
      answers.push(sent.then(({ messageId, offset }) => void (list[place] = { id, messageId, offset })));
      this.wrote += 1;
      await sleep(random() * 90);
    }
    await Promise.all(answers);
  }
}

test(`chaos: nothing acknowledged is lost, doubled or turned round (SEED=${seed})`, { timeout: 90_000 }, async (context) => {
  const random = generator(seed);
  const server = new Server();
  await server.start();
  const proxies = await Promise.all([1, 2].map(() => new Proxy(() => server.port).start()));
  const options = () => {
    const own = generator(random() * 2 ** 32);
    return { random: () => own() * 0.02, heartbeatMs: 300, heartbeatTimeoutMs: 300, connectTimeoutMs: 1000 };
  };
  const writers = ["anna", "bob"].map((user, at) => new Writer(user, proxies[at]?.url ?? "", options()));
  const straight = new Reader("carol", `ws://127.0.0.1:${server.port}/ws`, options());
  const readers = [...writers, straight];
  for (const reader of readers) await reader.enter(server.token(reader.userId), ...ROOMS);

  // Phase 1: faults.
  const fates: Fate[] = ["tear", "lose", "deliver and cut", "freeze"];
  for (const proxy of proxies) {
    const chance = generator(random() * 2 ** 32);
    proxy.rule = () => (chance() < 0.05 ? (fates[Math.floor(chance() * fates.length)] ?? "lose") : "pass");
  }
  const written = Promise.all(writers.map((writer) => writer.write(generator(random() * 2 ** 32))));
  for (const share of [0.3, 0.6]) {
    await until("writing goes on", () => writers.every(({ wrote }) => wrote > MESSAGES * share));
    await server.kill("SIGKILL");
    await sleep(random() * 500);
    await server.start();
  }
  await until("all is written", () => writers.every(({ wrote }) => wrote === MESSAGES), 30_000);

  // Phase 2: the network heals, and everything must arrive.
  for (const proxy of proxies) proxy.rule = allPass;
  await written;
  const witness = await new Reader("dora", `ws://127.0.0.1:${server.port}/ws`).enter(server.token("dora"), ...ROOMS);
  for (const room of ROOMS) {
    const history = await witness.history(room);
    const last = history.at(-1)?.offset;
    await until(`all readers are up to date in ${room}`, () => readers.every(({ shown }) => shown.get(room)?.at(-1)?.offset === last));

    const stored = new Map(history.map((message) => [message.id, message]));
    const acked = writers.flatMap((writer) => writer.acked.get(room) ?? []);
    for (const { id, messageId, offset } of acked) {
      const message = stored.get(messageId);
      assert.deepEqual([message?.clientId, message?.offset], [id, offset], `lost: ${id}`);
    }
    assert.equal(history.length, acked.length, `doubled in ${room}`);
    for (const writer of writers) {
      const own = history.filter(({ userId }) => userId === writer.userId).map(({ clientId }) => clientId);
      assert.deepEqual(own, writer.acked.get(room)?.map(({ id }) => id), `order of ${writer.userId} in ${room}`);
    }
    // A reader that was told of a gap shows the newest part, all others show everything.
    for (const { userId, shown, recovered } of readers) {
      const offsets = shown.get(room)?.map(({ offset }) => offset) ?? [];
      const expected = history.map(({ offset }) => offset).slice(recovered.includes(false) ? -offsets.length : 0);
      assert.deepEqual(offsets, expected, `what ${userId} was shown of ${room}`);
    }
  }
  const faults = proxies.reduce((sum, proxy) => sum + proxy.faults, 0);
  const connections = proxies.reduce((sum, proxy) => sum + proxy.connections, 0);
  assert.ok(faults > 20, `only ${faults} faults`);
  assert.ok(readers.some(({ recovered }) => recovered.includes(true)));
  context.diagnostic(`${MESSAGES * writers.length} messages, ${faults} faults, ${connections} connections`);
});
