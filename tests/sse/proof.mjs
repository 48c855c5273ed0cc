// Event streams by the clients that people use, npm `eventsource` and Chromium's EventSource, against a real server: they hear their
// rooms, come back by themselves after SIGKILL and after a drain without losing or doubling a message, and stop at a bad token.
//
// Usage: node tests/sse/proof.mjs BINARY PORT
// Environment: SSE_TOOLS, a folder with node_modules/{eventsource,ws}; BROWSER_TOOLS, one with node_modules/puppeteer-core; CHROMIUM.
// Exit code 0: everything was seen. Otherwise the first thing that was not seen is named.
import { strict as assert } from "node:assert";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Program, Server } from "../browser/server.mjs";

const [binary, portText] = process.argv.slice(2);
if (!portText) {
  console.error("usage: node tests/sse/proof.mjs BINARY PORT");
  process.exit(2);
}
const port = Number(portText);
const load = async (tools, name) => {
  const found = createRequire(join(resolve(tools), "x")).resolve(name);
  return import(pathToFileURL(found));
};
const sseTools = process.env.SSE_TOOLS ?? "target/ci-tools/sse";
const { EventSource } = await load(sseTools, "eventsource");
const { default: WebSocket } = await load(sseTools, "ws");
const { default: browsers } = await load(process.env.BROWSER_TOOLS ?? "target/ci-tools/browser", "puppeteer-core");

const PATIENCE_MS = 60000;
const work = mkdtempSync(join(tmpdir(), "throng-sse-"));
// A page of another origin, which is listed.
const elsewhere = createServer((_, response) => response.end("<!doctype html><title>elsewhere</title>"));
await new Promise((done) => elsewhere.listen(port + 1, "127.0.0.1", done));
const server = new Server(resolve(binary), port, join(work, "data"), [
  "auth.allow_query_token=true", "limits.messages=0", `http.allowed_origins=["http://127.0.0.1:${port + 1}"]`,
]);
let browser = null;

async function step(name, body) {
  const begun = Date.now();
  await body();
  console.log(`ok  ${String(Date.now() - begun).padStart(6)} ms  ${name}`);
}

async function eventually(what, holds) {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > until) throw new Error(`never seen: ${typeof what === "function" ? await what() : what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

// What runs beside an EventSource, in Node as in a page: keeps what was heard, as {kind, id, data}.
function listen(source, heard) {
  for (const kind of ["room_state", "chat_message", "server_closing", "closed"]) {
    source.addEventListener(kind, (event) => heard.push({ kind, id: event.lastEventId, data: JSON.parse(event.data) }));
  }
}

class InNode {
  #source;
  #heard = [];

  constructor(name, address, token) {
    this.name = name;
    const fetchWithToken = (url, init) => fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
    this.#source = new EventSource(address, { fetch: fetchWithToken });
    listen(this.#source, this.#heard);
  }

  heard = async () => this.#heard;
  state = async () => this.#source.readyState;
  close = async () => this.#source.close();
}

class InPage {
  #page;

  static async open(name, from, address, token, options = {}) {
    const reader = new InPage();
    reader.name = name;
    reader.#page = await browser.newPage();
    await reader.#page.goto(from);
    await reader.#page.evaluate(
      (listenText, url, init) => {
        window.heard = [];
        window.source = new EventSource(url, init);
        new Function(`return ${listenText}`)()(window.source, window.heard);
      },
      listen.toString(), `${address}&token=${token}`, options,
    );
    return reader;
  }

  heard = () => this.#page.evaluate(() => window.heard);
  state = () => this.#page.evaluate(() => window.source.readyState);
  close = () => this.#page.close();
}

// Says things in rooms by WebSocket; each is acknowledged before the next.
class Speaker {
  #socket;
  #waiting = new Map();
  #next = 0;

  static async connect(token, name) {
    const speaker = new Speaker();
    speaker.name = name;
    speaker.#socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers: { Authorization: `Bearer ${token}` } });
    speaker.#socket.on("error", () => {});
    speaker.#socket.on("message", (text) => {
      const { type, data } = JSON.parse(text);
      if (type === "ack" || type === "error") {
        const done = speaker.#waiting.get(data.requestId);
        if (type === "ack") done?.resolve(data.result);
        else done?.reject(new Error(JSON.stringify(data)));
      }
    });
    await new Promise((open) => speaker.#socket.on("open", open));
    return speaker;
  }

  ask(type, data) {
    this.#next += 1;
    const id = `${this.name}-${this.#next}`;
    this.#socket.send(JSON.stringify({ id, type, data }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  end = () => this.#socket.terminate();
}

const said = new Map();
async function say(speaker, room, count) {
  await speaker.ask("join_room", { roomId: room });
  for (let n = 0; n < count; n += 1) {
    const text = `${room} ${(said.get(room) ?? []).length} \n ñ 🐝`;
    await speaker.ask("chat_message", { roomId: room, message: text });
    said.set(room, [...(said.get(room) ?? []), text]);
  }
}

// Each reader heard exactly what was said in its rooms: nothing lost, nothing doubled, in order, with the offsets 1, 2, 3 …
async function hasHeardAll(reader, rooms) {
  const texts = async (room) => (await reader.heard())
    .filter(({ kind, data }) => kind === "chat_message" && data.roomId === room)
    .map(({ data }) => data.message);
  for (const room of rooms) {
    const describe = async () => `${reader.name} in ${room}: ${JSON.stringify(await texts(room))}`;
    await eventually(describe, async () => (await texts(room)).length >= (said.get(room) ?? []).length);
    assert.deepEqual(await texts(room), said.get(room), `${reader.name} in ${room}`);
  }
}

async function snapshots(reader, count) {
  const states = async () => (await reader.heard()).filter(({ kind }) => kind === "room_state").map(({ data }) => data);
  await eventually(async () => `${reader.name}: ${count} snapshots; ${JSON.stringify(await states())}`,
    async () => (await states()).length >= count);
  return states();
}

async function prove() {
  const addresses = await server.start();
  const token = (user) => new URLSearchParams(new URL(addresses[user]).hash.slice(1)).get("token");
  const [anna, bob] = [token("anna"), token("bob")];
  browser = await browsers.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    userDataDir: join(work, "profile"),
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
  const origin = `http://127.0.0.1:${port}`;
  const rooms = ["lobby", "news", "club"];
  const one = `${origin}/events?rooms=lobby`;
  const several = `${origin}/events?rooms=${rooms}`;
  const readers = [
    { rooms: ["lobby"], reader: new InNode("npm, one room", one, anna) },
    { rooms, reader: new InNode("npm, several rooms", several, anna) },
    { rooms: ["lobby"], reader: await InPage.open("Chromium, one room", `${origin}/`, one, anna) },
    { rooms, reader: await InPage.open("Chromium, several rooms", `${origin}/`, several, anna) },
    {
      rooms,
      reader: await InPage.open("Chromium, elsewhere", `http://127.0.0.1:${port + 1}/`, several, anna, { withCredentials: true }),
    },
  ];
  const everybody = (look) => Promise.all(readers.map(look));

  await step("all clients are let in and get a snapshot of each room", () => everybody(({ reader, rooms }) => snapshots(reader, rooms.length)));
  let speaker = await Speaker.connect(bob, "first");
  await step("they hear what is said, with ids", async () => {
    for (const room of rooms) await say(speaker, room, 5);
    await everybody(({ reader, rooms }) => hasHeardAll(reader, rooms));
    for (const { reader, rooms } of readers) {
      const last = (await reader.heard()).findLast(({ kind }) => kind === "chat_message");
      assert.match(last.id, new RegExp(`^([0-9A-Z]+:5,?){${rooms.length}}$`), reader.name);
    }
  });

  await step("SIGKILL and restart: they come back by themselves, nothing is lost or doubled", async () => {
    const busy = rooms.map(async (room) => {
      const talker = await Speaker.connect(bob, `cut-${room}`);
      for (let n = 0; n < 20; n += 1) await say(talker, room, 1);
      talker.end();
    });
    await Promise.all(busy);
    await server.kill("SIGKILL");
    await everybody(({ reader }) => eventually(`${reader.name} notices`, async () => (await reader.state()) === 0));
    await server.start();
    speaker = await Speaker.connect(bob, "second");
    // Before all are back, and while they come.
    for (const room of rooms) await say(speaker, room, 10);
    await everybody(({ reader, rooms }) => snapshots(reader, 2 * rooms.length));
    for (const room of rooms) await say(speaker, room, 2);
    await everybody(({ reader, rooms }) => hasHeardAll(reader, rooms));
    for (const { reader, rooms } of readers) {
      const again = (await snapshots(reader, 2 * rooms.length)).slice(rooms.length);
      assert.ok(again.every(({ recovered }) => recovered === true), reader.name);
    }
  });

  await step("SIGTERM: they are told, and come back to the next server", async () => {
    assert.equal(await server.kill("SIGTERM"), 0, "exit code of the server");
    for (const { reader } of readers) {
      const ending = async () => (await reader.heard()).slice(-2);
      await eventually(`${reader.name} is told`, async () => (await ending())[1]?.kind === "closed");
      const [closing, closed] = await ending();
      assert.equal(closing.kind, "server_closing", reader.name);
      assert.deepEqual(closed.data, { code: 4200, reason: "Server closing", reconnect: true }, reader.name);
    }
    await server.start();
    speaker = await Speaker.connect(bob, "third");
    for (const room of rooms) await say(speaker, room, 3);
    await everybody(({ reader, rooms }) => hasHeardAll(reader, rooms));
  });

  await step("a bad token stops an EventSource for good", async () => {
    const bad = [
      new InNode("npm, bad token", one, "x.y.z"),
      await InPage.open("Chromium, bad token", `${origin}/`, one, "x.y.z"),
    ];
    for (const reader of bad) {
      await eventually(`${reader.name} stops`, async () => (await reader.state()) === 2);
      await reader.close();
    }
  });

  await step("the protocol's example runs", () => example(speaker, anna));
  await everybody(({ reader }) => reader.close());
  speaker.end();
}

// The first JavaScript block of the section, as it stands there.
async function example(speaker, token) {
  const text = readFileSync(new URL("../../docs/PROTOCOL.md", import.meta.url), "utf8");
  const [, code] = text.match(/\n## Event streams\n.*?```js\n(.*?)```/s) ?? [];
  assert.ok(code, "the section has a JavaScript block");
  const folder = mkdtempSync(join(sseTools, "example-"));
  try {
    writeFileSync(join(folder, "events.mjs"), code);
    const environment = { ...process.env, TOKEN: token, SERVER: `http://127.0.0.1:${port}` };
    const program = new Program(process.execPath, [join(folder, "events.mjs")], environment);
    await program.prints(`lobby bob: ${said.get("lobby")[0]}`);
    await speaker.ask("chat_message", { roomId: "news", message: "extra" });
    await program.prints("news bob: extra");
    await program.kill("SIGKILL");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

let code = 0;
try {
  await prove();
  console.log("sse: proved");
} catch (error) {
  code = 1;
  console.error(`sse: FAILED: ${error.stack ?? error}`);
  console.error(`sse: the server's log:\n${server.log}`);
} finally {
  await browser?.close().catch(() => {});
  await server.kill("SIGKILL");
  elsewhere.close();
  rmSync(work, { recursive: true, force: true });
}
process.exit(code);
