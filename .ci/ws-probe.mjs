// Signs in over /ws with TOKEN, waits for the answer to a heartbeat, then tries once with a bad token.
// Node's own modules only. Usage: node ws-probe.mjs PORT TOKEN
import { randomBytes } from "node:crypto";
import { request } from "node:http";

const [port, token] = process.argv.slice(2);

function handshake(bearer) {
  return new Promise((resolve, reject) => {
    const headers = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
      Authorization: `Bearer ${bearer}`,
    };
    const call = request({ host: "127.0.0.1", port, path: "/ws", headers });
    call.on("upgrade", (response, socket, head) => resolve({ status: 101, socket, head }));
    call.on("response", (response) => resolve({ status: response.statusCode }));
    call.on("error", reject);
    call.end();
  });
}

function maskedText(text) {
  const payload = Buffer.from(text);
  if (payload.length > 125) throw new Error("too long for this probe");
  const mask = randomBytes(4);
  const body = payload.map((byte, at) => byte ^ mask[at % 4]);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, body]);
}

const deadline = setTimeout(() => {
  console.error("probe: no answer in 10 s");
  process.exit(1);
}, 10_000);

const good = await handshake(token);
if (good.status !== 101) throw new Error(`a good token was answered ${good.status}`);
let seen = good.head.toString("latin1");
good.socket.write(maskedText('{"id":"p1","type":"heartbeat","data":{"timestamp":1}}'));
await new Promise((resolve, reject) => {
  good.socket.on("data", (bytes) => {
    seen += bytes.toString("latin1");
    if (seen.includes('"heartbeat_response"')) resolve();
  });
  good.socket.on("close", () => reject(new Error("closed before the answer")));
});
good.socket.removeAllListeners("close");
good.socket.destroy();

const bad = await handshake("not-a-token");
if (bad.status !== 401) throw new Error(`a bad token was answered ${bad.status}, not 401`);
clearTimeout(deadline);
