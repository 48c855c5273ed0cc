// permessage-deflate against npm `ws` (WS_MODULE: path of its wrapper.mjs), whose client checks the answer to its offer and inflates by
// Node's zlib. Every kind of offer echoes messages of every kind; then all of them hear one room, beside a client without compression.
// Usage: node deflate.mjs PORT TOKEN
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { get } from "node:http";

const { default: WebSocket } = await import(process.env.WS_MODULE);
const [port, token] = process.argv.slice(2);

// `threshold: 0` compresses whatever is sent.
const offers = {
  plain: false,
  default: { threshold: 0 },
  "no takeover": { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  "server window 9": { threshold: 0, serverMaxWindowBits: 9 },
  "both windows": { threshold: 0, serverMaxWindowBits: 12, clientMaxWindowBits: 9 },
  "server window 15": { threshold: 0, serverMaxWindowBits: 15, clientMaxWindowBits: 15 },
};

function connect(path, perMessageDeflate, headers = {}) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { perMessageDeflate, headers });
    const inbox = [];
    const waiting = [];
    socket.on("message", (data, isBinary) => {
      const message = { data, isBinary };
      const next = waiting.shift();
      if (next) next.resolve(message);
      else inbox.push(message);
    });
    const fail = (error) => {
      reject(error);
      for (const next of waiting.splice(0)) next.reject(error);
    };
    socket.on("error", fail);
    socket.on("close", (code) => fail(new Error(`closed with ${code}`)));
    const receive = () =>
      inbox.length ? Promise.resolve(inbox.shift()) : new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    socket.on("open", () => resolve({ socket, receive, bytes: () => socket._socket.bytesRead }));
  });
}

const messages = [
  "",
  "a",
  "Hello",
  "grüß dich 😀 ".repeat(400),
  JSON.stringify(Array.from({ length: 900 }, (_, n) => ({ n, text: "again and again" }))),
  "x".repeat(65_536),
  Buffer.alloc(0),
  Buffer.alloc(65_536, 7),
  randomBytes(20_000),
];

for (const [name, offer] of Object.entries(offers)) {
  const { socket, receive } = await connect("/echo", offer);
  assert.equal(socket.extensions.includes("permessage-deflate"), offer !== false, `${name}: ${socket.extensions}`);
  for (const message of messages) {
    const isBinary = Buffer.isBuffer(message);
    socket.send(message);
    let echo = await receive();
    assert.equal(echo.isBinary, isBinary, name);
    assert.ok(echo.data.equals(Buffer.from(message)), `${name}: ${message.length} bytes came back otherwise`);
    // The same in fragments.
    const whole = Buffer.from(message);
    const cut = Math.floor(whole.length / 3);
    socket.send(whole.subarray(0, cut), { binary: isBinary, compress: true, fin: false });
    socket.send(whole.subarray(cut, 2 * cut), { binary: isBinary, compress: true, fin: false });
    socket.send(whole.subarray(2 * cut), { binary: isBinary, compress: true, fin: true });
    echo = await receive();
    assert.ok(echo.data.equals(whole), `${name}: fragments came back otherwise`);
  }
  socket.removeAllListeners("close");
  socket.close(1000);
}

const listeners = [];
for (const [name, offer] of Object.entries(offers)) {
  const client = await connect("/ws", offer, { Authorization: `Bearer ${token}` });
  client.name = name;
  client.next = async (type) => {
    for (;;) {
      const message = JSON.parse((await client.receive()).data.toString());
      if (message.type === type) return message;
      assert.notEqual(message.type, "error", JSON.stringify(message));
    }
  };
  await client.next("connection_established");
  client.socket.send(JSON.stringify({ id: "j", type: "join_room", data: { roomId: "lobby" } }));
  await client.next("room_state");
  client.before = client.bytes();
  listeners.push(client);
}

const said = 50;
const text = (n) => `message number ${n}: ${"so long that it is worth while to compress it, ".repeat(12)}`.trim();
for (let n = 0; n < said; n++) {
  const command = { id: `m${n}`, type: "chat_message", data: { roomId: "lobby", message: text(n) } };
  listeners[n % listeners.length].socket.send(JSON.stringify(command));
  const heard = await Promise.all(listeners.map((client) => client.next("chat_message")));
  assert.equal(heard[0].data.message, text(n));
  heard.forEach((message, i) => assert.deepEqual(message, heard[0], listeners[i].name));
}
const sizes = listeners.map((client) => client.bytes() - client.before);
sizes.slice(1).forEach((size, i) => {
  assert.ok(size < sizes[0] * 0.6, `${listeners[i + 1].name}: ${size} bytes, a plain client took ${sizes[0]}`);
});

const page = await new Promise((resolve, reject) => {
  get(`http://127.0.0.1:${port}/metrics`, (response) => {
    let body = "";
    response.on("data", (piece) => (body += piece));
    response.on("end", () => resolve(body));
  }).on("error", reject);
});
const metric = (name) => Number(page.match(new RegExp(`^${name} (\\d+)`, "m"))?.[1]);
assert.ok(metric("throng_deflate_messages_total") > 0 && metric("throng_inflate_messages_total") > 0);
assert.ok(metric("throng_deflate_output_bytes_total") < metric("throng_deflate_input_bytes_total"));
for (const { socket } of listeners) {
  socket.removeAllListeners("close");
  socket.close(1000);
}
console.log(`deflate: ${Object.keys(offers).length} offers, ${messages.length} messages each way and cut; bytes of a room: ${sizes.join(", ")}`);
