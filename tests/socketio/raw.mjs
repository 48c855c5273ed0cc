// Bytes against the server, without a client library: one HTTP request, one polling session, one WebSocket.
import { strict as assert } from "node:assert";
import { request as httpRequest } from "node:http";
import { WebSocket } from "./tools.mjs";

// How long anything may take that must happen. Only a failure waits for it.
export const PATIENCE_MS = 20000;
export const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

// `promise`, or an error that says what did not happen.
export function within(promise, what) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`did not happen: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Asks again and again until `look` gives something.
export async function eventually(look, what) {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < until, `did not happen: ${what}`);
    await pause(20);
  }
}

// One request, on a connection of its own if there is no `agent`: {status, headers, body}. `hold`: gives {request, answer} at once,
// and the body is to be written by the caller. `onPort` is told the client's port.
export function ask(url, method, query, { headers = {}, body, path = "/socket.io/", hold = false, agent = false, onPort } = {}) {
  const address = new URL(path, url);
  address.search = new URLSearchParams(query).toString();
  const length = body === undefined || hold ? {} : { "content-length": Buffer.byteLength(body) };
  const request = httpRequest(address, { method, agent, headers: { ...length, ...headers } });
  if (onPort) {
    const told = (socket) => onPort(socket.localPort);
    request.on("socket", (socket) => (socket.connecting ? socket.once("connect", () => told(socket)) : told(socket)));
  }
  const answer = new Promise((done, fail) => {
    request.on("error", fail);
    request.on("response", async (response) => {
      const chunks = [];
      try {
        for await (const chunk of response) chunks.push(chunk);
        done({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() });
      } catch (error) {
        fail(error);
      }
    });
  });
  if (hold) {
    answer.catch(() => {}); // may be cut on purpose
    request.flushHeaders();
    return { request, answer };
  }
  request.end(body);
  return within(answer, `an answer to ${method} ${address.search}`);
}

// Engine.IO packets of a polling body, and back.
export const packets = (body) => body.split("\x1e");
export const payload = (...list) => list.join("\x1e");

// A Socket.IO packet in its text form, without the 4 of Engine.IO: {type, attachments, nsp, id, data}.
export function parse(text) {
  const [, type, attachments, nsp, id, json] = /^(\d)(?:(\d+)-)?(?:(\/[^,]*),)?(\d+)?([^]*)$/.exec(text);
  return {
    type: Number(type),
    attachments: attachments === undefined ? 0 : Number(attachments),
    nsp: nsp ?? "/",
    id: id === undefined ? undefined : Number(id),
    data: json === "" ? undefined : JSON.parse(json),
  };
}

export const EIO4 = { EIO: "4" };
export const polling = { ...EIO4, transport: "polling" };
export const websocket = { ...EIO4, transport: "websocket" };

// A session over long-polling.
export class Poller {
  #waiting = [];

  constructor(url, open) {
    this.url = url;
    this.open = open;
    this.query = { ...polling, sid: open.sid };
  }

  static async handshake(url, query = polling) {
    const answer = await ask(url, "GET", query);
    assert.equal(answer.status, 200, answer.body);
    const [first, ...rest] = packets(answer.body);
    assert.equal(first[0], "0", answer.body);
    const poller = new Poller(url, JSON.parse(first.slice(1)));
    poller.#waiting = rest;
    return poller;
  }

  // A session that has joined namespaces.
  static async connected(url, token, namespaces = ["/"]) {
    const poller = await Poller.handshake(url);
    for (const nsp of namespaces) {
      const name = nsp === "/" ? "" : `${nsp},`;
      await poller.say(`40${name}${JSON.stringify({ token })}`);
      await poller.until((packet) => packet.startsWith(`40${name}`));
    }
    return poller;
  }

  get() {
    return ask(this.url, "GET", this.query);
  }

  post(body, headers = { "content-type": "text/plain;charset=UTF-8" }) {
    return ask(this.url, "POST", this.query, { body, headers });
  }

  // Posts packets, which must be taken.
  async say(...list) {
    const answer = await this.post(payload(...list));
    assert.deepEqual([answer.status, answer.body], [200, "ok"]);
  }

  // The next packet; polls if none waits. Pings are answered.
  async next() {
    for (;;) {
      while (this.#waiting.length === 0) {
        const answer = await this.get();
        assert.equal(answer.status, 200, answer.body);
        this.#waiting = packets(answer.body);
      }
      const packet = this.#waiting.shift();
      if (packet !== "2") return packet;
      await this.say("3");
    }
  }

  // The next packet that `is` accepts; the others are gone.
  async until(is) {
    for (;;) {
      const packet = await this.next();
      if (is(packet)) return packet;
      assert.notEqual(packet, "1", "the session ended");
    }
  }

  // Whether the server still knows the session, until it does not.
  ended() {
    return eventually(async () => {
      const answer = await this.post("3");
      if (answer.status === 200) return false;
      assert.deepEqual([answer.status, JSON.parse(answer.body)], [400, { code: 1, message: "Session ID unknown" }]);
      return true;
    }, "the end of the session");
  }
}

// A WebSocket whose messages wait until they are asked for: texts as strings, binary ones as Buffers, the end as {closed: code}.
export class Wire {
  #waiting = [];
  #wake = () => {};

  constructor(url, query, { headers = {}, path = "/socket.io/", protocols } = {}) {
    const address = new URL(path, url.replace("http", "ws"));
    address.search = new URLSearchParams(query).toString();
    this.socket = new WebSocket(address, protocols, { headers, perMessageDeflate: false });
    const put = (item) => { this.#waiting.push(item); this.#wake(); };
    this.socket.on("message", (bytes, isBinary) => put(isBinary ? bytes : bytes.toString()));
    this.socket.on("close", (code) => put({ closed: code }));
    this.socket.on("error", () => {}); // a close follows
    this.refusal = new Promise((done) => {
      this.socket.on("unexpected-response", async (_, response) => {
        const chunks = [];
        try {
          for await (const chunk of response) chunks.push(chunk);
        } catch { /* cut behind the answer */ }
        done({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() });
        this.socket.terminate();
      });
    });
  }

  // A WebSocket session: its open packet is in `open`.
  static async handshake(url, options) {
    const wire = new Wire(url, websocket, options);
    const first = await wire.next();
    assert.ok(typeof first === "string" && first[0] === "0", `no session: ${JSON.stringify(first)}`);
    wire.open = JSON.parse(first.slice(1));
    return wire;
  }

  // A session that has joined namespaces; `sids` holds what the server called it there.
  static async connected(url, token, namespaces = ["/"]) {
    const wire = await Wire.handshake(url);
    wire.sids = [];
    for (const nsp of namespaces) {
      const name = nsp === "/" ? "" : `${nsp},`;
      wire.send(`40${name}${JSON.stringify({ token })}`);
      const reply = await wire.until((message) => String(message).startsWith(`40${name}`));
      wire.sids.push(parse(reply.slice(1)).data.sid);
    }
    return wire;
  }

  send(message) {
    this.socket.send(message);
  }

  // The next message. Pings of Engine.IO are answered.
  async next() {
    for (;;) {
      if (this.#waiting.length === 0) await within(new Promise((wake) => { this.#wake = wake; }), "a message");
      const message = this.#waiting.shift();
      if (message !== "2") return message;
      this.send("3");
    }
  }

  async until(is) {
    for (;;) {
      const message = await this.next();
      if (is(message)) return message;
      assert.equal(message.closed, undefined, `closed ${message.closed} instead`);
    }
  }

  // Joins a room, by ack id 1.
  async join(roomId, nsp = "/") {
    const name = nsp === "/" ? "" : `${nsp},`;
    this.send(`42${name}1["join_room",${JSON.stringify({ roomId })}]`);
    const ack = parse((await this.until((message) => String(message).startsWith(`43${name}1[`))).slice(1));
    assert.equal(ack.data[0].ok, true, JSON.stringify(ack.data));
  }

  // The next event of a name: its arguments, in all namespaces.
  async event(name) {
    const is = (message) => typeof message === "string" && message.startsWith("42") && parse(message.slice(1)).data[0] === name;
    return parse((await this.until(is)).slice(1)).data.slice(1);
  }

  // Waits for the end of the connection; its code.
  async closed() {
    for (;;) {
      const message = await this.next();
      if (message.closed !== undefined) return message.closed;
    }
  }

  // The end must not have come: the session still answers.
  async lives(nsp = "/") {
    const name = nsp === "/" ? "" : `${nsp},`;
    this.send(`42${name}77["join_room",{"roomId":"alive"}]`);
    await this.until((message) => String(message).startsWith(`43${name}77[`));
  }

  // As a client that means it.
  end() {
    this.socket.close();
  }

  // As a network that is gone.
  cut() {
    this.socket.terminate();
  }
}
