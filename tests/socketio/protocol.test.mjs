// Engine.IO 4, byte by byte: handshakes, every refusal, payloads, the upgrade, heartbeats. All of it holds for the reference too:
// SOCKETIO_SERVER=reference node --test tests/socketio/protocol.test.mjs
// What follows the packets of Socket.IO is in packets.test.mjs.
import { strict as assert } from "node:assert";
import { Agent } from "node:http";
import { after, before, describe, it } from "node:test";
import { EIO4, Poller, Wire, ask, eventually, packets, parse, pause, polling, websocket, within } from "./raw.mjs";
import { Server, isReference } from "./server.mjs";

const MAX_PAYLOAD = 100000;
const PING_MS = 700;

const refusal = (code, message) => ({ code, message });
const TRANSPORT = refusal(0, "Transport unknown");
const SID = refusal(1, "Session ID unknown");
const METHOD = refusal(2, "Bad handshake method");
const REQUEST = refusal(3, "Bad request");
const VERSION = refusal(5, "Unsupported protocol version");

let server;
before(async () => { server = await Server.start({ maxPayload: MAX_PAYLOAD, origins: "https://app.example" }); });
after(() => server.stop());

const roomName = (() => { let count = 0; return () => `room-${++count}`; })();
const poller = (user = "anna") => Poller.connected(server.url, server.token(user));
const wire = (user = "bob") => Wire.connected(server.url, server.token(user));

async function refused(expected, method, query, options) {
  const answer = await ask(server.url, method, query, options);
  assert.equal(answer.status, 400, answer.body);
  assert.match(answer.headers["content-type"], /^application\/json/);
  assert.deepEqual(JSON.parse(answer.body), expected);
}

describe("handshake", () => {
  it("by polling", async () => {
    const answer = await ask(server.url, "GET", { ...polling, t: "abc" });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["content-type"].toLowerCase(), "text/plain; charset=utf-8");
    assert.equal(answer.headers["cache-control"], "no-store");
    const list = packets(answer.body);
    assert.deepEqual([list.length, list[0][0]], [1, "0"]);
    const { sid, ...rest } = JSON.parse(list[0].slice(1));
    assert.equal(typeof sid, "string");
    assert.ok(sid.length >= 20, sid);
    assert.deepEqual(rest, { upgrades: ["websocket"], pingInterval: 25000, pingTimeout: 20000, maxPayload: MAX_PAYLOAD });
  });

  it("by WebSocket", async () => {
    const wire = await Wire.handshake(server.url);
    assert.deepEqual([wire.open.upgrades, wire.open.maxPayload], [[], MAX_PAYLOAD]);
    wire.end();
  });

  it("gives everyone another session", async () => {
    const sids = new Set();
    for (let n = 0; n < 10; n++) sids.add((await Poller.handshake(server.url)).open.sid);
    assert.equal(sids.size, 10);
  });

  it("never shows the session id to anyone else: the id of Socket.IO is another", async () => {
    const connected = await wire();
    assert.notEqual(connected.sids[0], connected.open.sid);
    connected.end();
  });
});

describe("refusals", () => {
  const unknown = "AAAAAAAAAAAAAAAAAAAA";

  it("unknown transport", async () => {
    await refused(TRANSPORT, "GET", { ...EIO4, transport: "carrier-pigeon" });
    await refused(TRANSPORT, "GET", EIO4);
    await refused(TRANSPORT, "GET", {});
    await refused(TRANSPORT, "POST", { ...EIO4, transport: "" }, { body: "" });
    await refused(TRANSPORT, "GET", { ...EIO4, transport: "webtransport" });
  });

  it("unknown session", async () => {
    for (const sid of [unknown, "x", "../..", "0".repeat(1000), "ü%00"]) {
      await refused(SID, "GET", { ...polling, sid });
      await refused(SID, "POST", { ...polling, sid }, { body: "3" });
    }
    // A session's id with one character changed.
    const { open: { sid } } = await Poller.handshake(server.url);
    for (const at of [0, sid.length >> 1, sid.length - 1]) {
      const changed = sid.slice(0, at) + (sid[at] === "A" ? "B" : "A") + sid.slice(at + 1);
      await refused(SID, "GET", { ...polling, sid: changed });
    }
    await refused(SID, "GET", { ...polling, sid: `${sid}A` });
    await refused(SID, "GET", { ...polling, sid: sid.slice(0, -1) });
  });

  it("handshake by another method", async () => {
    await refused(METHOD, "POST", polling, { body: "40" });
    await refused(METHOD, "PUT", polling, { body: "40" });
    await refused(METHOD, "POST", { transport: "polling" }, { body: "40" });
  });

  it("WebSocket without an upgrade", async () => {
    await refused(REQUEST, "GET", websocket);
    const { open: { sid } } = await Poller.handshake(server.url);
    await refused(REQUEST, "GET", { ...websocket, sid });
  });

  it("polling on a session that is a WebSocket", async () => {
    const connected = await wire();
    const query = { ...polling, sid: connected.open.sid };
    await refused(REQUEST, "GET", query);
    await refused(REQUEST, "POST", query, { body: "41" });
    await connected.lives();
    connected.end();
  });

  it("unsupported version", async () => {
    await refused(VERSION, "GET", { transport: "polling" });
    for (const EIO of ["3", "5", "4.0", "", "four"]) await refused(VERSION, "GET", { transport: "polling", EIO });
  });

  it("another version than the session's", async () => {
    const { open: { sid } } = await Poller.handshake(server.url);
    await refused(REQUEST, "GET", { ...polling, EIO: "3", sid });
    await refused(REQUEST, "GET", { transport: "polling", sid });
  });

  it("on a WebSocket upgrade: a plain 400, and the connection ends", async () => {
    const cases = [
      [{ ...EIO4, transport: "smoke" }, TRANSPORT],
      [EIO4, TRANSPORT],
      [{ ...websocket, sid: unknown }, SID],
    ];
    for (const [query, { message }] of cases) {
      const wire = new Wire(server.url, query);
      const answer = await within(wire.refusal, `a refusal of ${JSON.stringify(query)}`);
      assert.deepEqual([answer.status, answer.body], [400, message]);
      assert.match(answer.headers["content-type"], /^text\//);
      assert.equal(answer.headers.connection, "close");
    }
  });

  it("on a WebSocket upgrade of an unsupported version: no session", async () => {
    // The reference accepts the WebSocket and then writes its plain 400 into it; either way it ends before anything is said.
    const wire = new Wire(server.url, { transport: "websocket", EIO: "3" });
    assert.ok((await wire.next()).closed !== undefined);
  });
});

describe("polling", () => {
  it("a taken POST says ok", async () => {
    const session = await Poller.handshake(server.url);
    const answer = await session.post(`40${JSON.stringify({ token: server.token("anna") })}`);
    assert.deepEqual([answer.status, answer.body], [200, "ok"]);
    assert.match(answer.headers["content-type"], /^text\/html/);
    assert.equal(answer.headers["cache-control"], "no-store");
  });

  it("several packets in one body, both ways, in order", async () => {
    const session = await poller();
    const room = roomName();
    // Of one room: acks of several may come in any order.
    const commands = Array.from({ length: 20 }, (_, n) => `42${n}["join_room",{"roomId":"${room}"}]`);
    await session.say(...commands);
    const acks = [];
    while (acks.length < 20) acks.push(parse((await session.until((p) => p.startsWith("43"))).slice(1)).id);
    assert.deepEqual(acks, commands.map((_, n) => n));
  });

  it("characters of several bytes", async () => {
    const [session, other, room] = [await poller(), await wire(), roomName()];
    await other.join(room);
    await session.say(`42["join_room",{"roomId":"${room}"}]`, `42["broadcast",{"roomId":"${room}","event":"ü","payload":"€ 漢字 🐝"}]`);
    const [event] = await other.event("broadcast");
    assert.deepEqual([event.event, event.payload], ["ü", "€ 漢字 🐝"]);
    other.send(`42["broadcast",{"roomId":"${room}","event":"ß","payload":"🐝\\u001e|"}]`);
    const back = parse((await session.until((p) => p.startsWith('42["broadcast"'))).slice(1)).data[1];
    assert.deepEqual([back.event, back.payload], ["ß", "🐝\x1e|"]);
    other.end();
  });

  it("a GET waits until there is something", async () => {
    const [session, other, room] = [await poller(), await wire(), roomName()];
    await session.say(`421["join_room",{"roomId":"${room}"}]`);
    await session.until((p) => p.startsWith("431"));
    await other.join(room);
    await session.until((p) => p.startsWith('42["user_joined"'));
    let isBack = false;
    const waiting = session.get().then((answer) => { isBack = true; return answer; });
    await pause(300);
    assert.equal(isBack, false);
    other.send(`42["broadcast",{"roomId":"${room}","event":"now","payload":1}]`);
    const answer = await waiting;
    assert.equal(answer.headers["content-type"].toLowerCase(), "text/plain; charset=utf-8");
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.match(answer.body, /^42\["broadcast"/);
    other.end();
  });

  it("two GETs at once: one gets 400, the other the end of the session", async () => {
    const session = await poller();
    await drained(session);
    const answers = await Promise.all([session.get(), session.get()]);
    answers.sort((a, b) => a.status - b.status);
    assert.deepEqual(answers.map(({ status, body }) => [status, body]), [[200, "1"], [400, ""]]);
    await session.ended();
  });

  it("two POSTs at once: 400, and the session ends", async () => {
    const session = await poller();
    const first = ask(server.url, "POST", session.query, { hold: true, headers: { "content-length": 1000 } });
    first.request.write("4");
    const answer = await eventually(async () => {
      const answer = await session.post("3");
      return answer.status !== 200 && answer;
    }, "a refusal of the second POST");
    assert.deepEqual([answer.status, answer.body], [400, ""]);
    await session.ended();
    first.request.destroy();
  });

  it("a POST that is too large: 413, and the session lives on", async () => {
    const session = await poller();
    assert.equal((await session.post("4".repeat(MAX_PAYLOAD + 1))).status, 413);
    await session.say('421["join_room",{"roomId":"after"}]');
    await session.until((p) => p.startsWith("431"));
    // Just as large as allowed.
    const room = roomName();
    const head = `421["broadcast",{"roomId":"${room}","event":"x","payload":"`;
    await session.say(`422["join_room",{"roomId":"${room}"}]`);
    assert.equal((await session.post(`${head}${"x".repeat(MAX_PAYLOAD - head.length - 3)}"}]`)).status, 200);
  });

  it("a POST in several chunks, its length unknown", async () => {
    const session = await poller();
    const { request, answer } = ask(server.url, "POST", session.query, { hold: true, headers: { "transfer-encoding": "chunked" } });
    request.write('421["join_room",');
    await pause(50);
    request.end('{"roomId":"chunks"}]');
    assert.equal((await answer).status, 200);
    await session.until((p) => p.startsWith("431"));
  });

  it("binary content: 400, and the session ends", async () => {
    const session = await poller();
    const answer = await session.post(Buffer.from("3"), { "content-type": "application/octet-stream" });
    assert.equal(answer.status, 400);
    await session.ended();
  });

  it("a GET that the client gives up ends the session", async () => {
    const session = await poller();
    await drained(session);
    const { request } = ask(server.url, "GET", session.query, { hold: true });
    request.end();
    await pause(200);
    request.destroy();
    await session.ended();
  });

  it("the client's close ends the session, a waiting GET gets a noop", async () => {
    const session = await poller();
    await drained(session);
    const waiting = session.get();
    await pause(200);
    await session.say("1");
    assert.equal((await waiting).body, "6");
    await session.ended();
  });

  it("the server's close reaches a waiting GET", async () => {
    const session = await poller();
    await drained(session);
    const waiting = session.get();
    await pause(200);
    assert.equal((await session.post("42[]")).status, 200); // a breach of Socket.IO's rules
    assert.equal(packets((await waiting).body).at(-1), "1");
    await session.ended();
  });

  it("the server's close waits for the next GET", async () => {
    const session = await poller();
    await drained(session);
    assert.equal((await session.post("42[]")).status, 200);
    assert.equal(packets((await session.get()).body).at(-1), "1");
    await session.ended();
  });

  it("an unknown packet ends the session", async () => {
    for (const body of ["9", "x", ""]) {
      const session = await poller();
      await drained(session);
      await session.post(body);
      await eventually(async () => (await session.get().catch(() => ({ status: 0 }))).status === 400, `the end after ${body}`);
    }
  });

  it("a ping of the client ends the session: in version 4 the server pings", async () => {
    const session = await poller();
    await session.post("2");
    // At once, or when the next GET was told.
    await eventually(async () => {
      const answer = await session.get();
      return answer.status === 400 || packets(answer.body).includes("1");
    }, "the end of the session");
    await session.ended();
  });

  it("one connection carries many requests", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set();
    const asked = (method, query, body) => ask(server.url, method, query, { body, agent, onPort: (port) => ports.add(port) });
    const first = await asked("GET", polling);
    const query = { ...polling, sid: JSON.parse(first.body.slice(1)).sid };
    for (const nsp of ["", "/chat,"]) {
      assert.equal((await asked("POST", query, `40${nsp}${JSON.stringify({ token: server.token("anna") })}`)).status, 200);
      assert.equal((await asked("GET", query)).status, 200);
    }
    assert.equal(ports.size, 1);
    agent.destroy();
  });
});

describe("upgrade", () => {
  it("probe, noop, upgrade; what is sent meanwhile arrives once and in order", async () => {
    const [session, other, room] = [await poller(), await wire(), roomName()];
    await session.say(`421["join_room",{"roomId":"${room}"}]`);
    await session.until((p) => p.startsWith("431"));
    await other.join(room);
    await drained(session);
    const say = (from, to) => {
      for (let n = from; n < to; n++) other.send(`42["broadcast",{"roomId":"${room}","event":"n","payload":${n}}]`);
    };
    const waiting = session.get();
    const carrier = new Wire(server.url, { ...websocket, sid: session.open.sid });
    await within(new Promise((done) => carrier.socket.once("open", done)), "the WebSocket");
    carrier.send("2probe");
    assert.equal(await carrier.next(), "3probe");
    const released = await waiting;
    assert.equal(released.body, "6");
    // The client does not poll any more: what comes now is kept until it has changed over.
    say(0, 50);
    await other.lives();
    carrier.send("5");
    say(50, 100);
    const got = [];
    while (got.length < 100) got.push((await carrier.event("broadcast"))[0].payload);
    assert.deepEqual(got, Array.from({ length: 100 }, (_, n) => n));
    await carrier.lives();
    await refused(REQUEST, "GET", session.query);
    await refused(REQUEST, "POST", session.query, { body: "3" });
    await carrier.lives();
    carrier.end();
    await eventually(async () => (await session.get()).body.includes("Session ID unknown"), "the end of the session");
    other.end();
  });

  it("while it is under way, polling goes on in both directions", async () => {
    const [session, room] = [await poller(), roomName()];
    await drained(session);
    const carrier = await probed(session);
    await session.say(`421["join_room",{"roomId":"${room}"}]`);
    await session.until((p) => p.startsWith("431"));
    carrier.send("5");
    await carrier.lives();
    carrier.end();
  });

  it("without a probe is allowed too", async () => {
    const session = await poller();
    await drained(session);
    const carrier = await opened(session);
    carrier.send("5");
    await carrier.lives();
    carrier.end();
  });

  it("anything else before it closes the newcomer, and polling lives", async () => {
    for (const message of ["2", "2other", "3probe", "40", "42[\"x\"]", "6", "x", Buffer.from("5")]) {
      const session = await poller();
      const carrier = await opened(session);
      carrier.send(message);
      await carrier.closed();
      await session.say('421["join_room",{"roomId":"still"}]');
      await session.until((p) => p.startsWith("431"));
    }
  });

  it("a newcomer that goes away leaves polling alive", async () => {
    for (const end of ["end", "cut"]) {
      const session = await poller();
      const carrier = await probed(session);
      carrier[end]();
      await session.say('421["join_room",{"roomId":"still"}]');
      await session.until((p) => p.startsWith("431"));
      // And another try succeeds.
      const second = await eventually(async () => {
        const second = await opened(session);
        second.send("2probe");
        return (await second.next()) === "3probe" && second;
      }, "a second upgrade");
      second.send("5");
      await second.lives();
      second.end();
    }
  });

  it("a second attempt closes the newcomer alone", async () => {
    const session = await poller();
    const carrier = await probed(session);
    const second = new Wire(server.url, { ...websocket, sid: session.open.sid });
    await second.closed();
    carrier.send("5");
    await carrier.lives();
    const third = new Wire(server.url, { ...websocket, sid: session.open.sid });
    await third.closed();
    await carrier.lives();
    carrier.end();
  });

  it("the end of the session ends the newcomer", async () => {
    const session = await poller();
    const carrier = await probed(session);
    await session.say("1");
    await carrier.closed();
  });
});

describe("WebSocket", () => {
  it("a ping of the client ends it", async () => {
    const connected = await wire();
    connected.send("2");
    await connected.closed();
  });

  it("an unknown packet ends it", async () => {
    for (const message of ["9", "x", ""]) {
      const connected = await wire();
      connected.send(message);
      await connected.closed();
    }
  });

  it("a message that is too large ends it with 1009", async () => {
    const connected = await wire();
    connected.send(`42["broadcast",{"payload":"${"x".repeat(MAX_PAYLOAD)}"}]`);
    assert.ok([1009, 1006].includes(await connected.closed()));
  });

  it("an unasked pong, a noop and a late upgrade change nothing", async () => {
    const connected = await wire();
    for (const message of ["3", "3x", "6", "5"]) connected.send(message);
    await connected.lives();
    connected.end();
  });

  it("Engine.IO's close ends the session", async () => {
    const connected = await wire();
    connected.send("1");
    if (isReference) connected.end(); // it waits for the WebSocket's end
    await connected.closed();
    await refused(SID, "GET", { ...polling, sid: connected.open.sid });
  });

  it("its end ends the session", async () => {
    for (const end of ["end", "cut"]) {
      const connected = await wire();
      connected[end]();
      await eventually(async () => {
        const answer = await ask(server.url, "GET", { ...polling, sid: connected.open.sid });
        return JSON.parse(answer.body).code === 1;
      }, "the end of the session");
    }
  });
});

describe("CORS", () => {
  const origin = "https://app.example";

  it("an allowed origin may read the answers, with its cookies", async () => {
    const answer = await ask(server.url, "GET", polling, { headers: { origin } });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["access-control-allow-origin"], origin);
    assert.equal(answer.headers["access-control-allow-credentials"], "true");
    assert.match(answer.headers.vary, /origin/i);
  });

  it("it may read refusals too", async () => {
    const answer = await ask(server.url, "GET", { ...polling, sid: "x" }, { headers: { origin } });
    assert.equal(answer.status, 400);
    assert.equal(answer.headers["access-control-allow-origin"], origin);
  });

  it("its preflight is answered", async () => {
    const { open: { sid } } = await Poller.handshake(server.url);
    const answer = await ask(server.url, "OPTIONS", { ...polling, sid }, {
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
    });
    assert.ok([200, 204].includes(answer.status), `${answer.status}`);
    assert.equal(answer.headers["access-control-allow-origin"], origin);
    assert.match(answer.headers["access-control-allow-methods"], /POST/);
    assert.match(answer.headers["access-control-allow-headers"], /content-type/i);
  });

  it("another origin may not", async () => {
    const other = "https://elsewhere.example";
    const answer = await ask(server.url, "GET", polling, { headers: { origin: other } });
    assert.notEqual(answer.headers["access-control-allow-origin"], other);
    assert.notEqual(answer.headers["access-control-allow-origin"], "*");
    if (isReference) return; // it answers, and leaves the refusal to the browser
    assert.equal(answer.status, 403);
    assert.equal(JSON.parse(answer.body).code, 4);
    const upgrade = new Wire(server.url, websocket, { headers: { origin: other } });
    assert.ok([400, 403].includes((await within(upgrade.refusal, "a refusal")).status));
  });
});

describe("heartbeat", () => {
  let hasty;
  before(async () => { hasty = await Server.start({ pingIntervalMs: PING_MS, pingTimeoutMs: PING_MS }); });
  after(() => hasty.stop());

  it("the server pings, and pongs keep the session", async () => {
    const session = await Poller.handshake(hasty.url);
    assert.deepEqual([session.open.pingInterval, session.open.pingTimeout], [PING_MS, PING_MS]);
    await session.say(`40${JSON.stringify({ token: hasty.token("anna") })}`);
    let pings = 0;
    while (pings < 3) {
      for (const packet of packets((await session.get()).body)) {
        if (packet !== "2") continue;
        pings++;
        await session.say("3");
      }
    }
  });

  it("without a pong the session ends, by polling", async () => {
    const session = await Poller.handshake(hasty.url);
    await session.say(`40${JSON.stringify({ token: hasty.token("anna") })}`);
    await eventually(async () => {
      const answer = await session.get();
      return answer.status === 400 || packets(answer.body).includes("1");
    }, "the end of the session");
  });

  it("without a pong the session ends, by WebSocket", async () => {
    const wire = new Wire(hasty.url, websocket);
    wire.socket.on("message", () => {});
    wire.send = () => {}; // answers nothing
    await wire.closed();
  });
});

// Polls until nothing more waits: what a session gets at its beginning is gone then.
async function drained(session) {
  await session.say('4288["join_room",{"roomId":"drained"}]');
  await session.until((packet) => packet.startsWith("4388"));
  // Behind the ack of a join comes the room's state.
  await session.until((packet) => packet.startsWith('42["room_joined"'));
}

// A WebSocket on a polling session.
async function opened(session) {
  const carrier = new Wire(server.url, { ...websocket, sid: session.open.sid });
  await within(new Promise((done) => carrier.socket.once("open", done)), "the WebSocket");
  return carrier;
}

async function probed(session) {
  const carrier = await opened(session);
  carrier.send("2probe");
  assert.equal(await carrier.next(), "3probe");
  return carrier;
}
