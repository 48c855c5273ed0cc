// Engine.IO 3: npm socket.io-client 2 is let in only with sio.eio3.
import { strict as assert } from "node:assert";
import { after, afterEach, before, describe, it } from "node:test";
import { endAll, connected, join, once, roomName, say } from "./clients.mjs";
import { ask, within } from "./raw.mjs";
import { Server } from "./server.mjs";
import { io2 } from "./tools.mjs";

const TRANSPORTS = { websocket: ["websocket"], polling: ["polling"], upgrading: ["polling", "websocket"] };
const open = [];

// A client of version 2 has no auth payload: its token goes into the header.
function old(server, transports, user = "olga") {
  const extraHeaders = { authorization: `Bearer ${server.token(user)}` };
  const transportOptions = { polling: { extraHeaders }, websocket: { extraHeaders } };
  const socket = io2(server.url, { transports: TRANSPORTS[transports], transportOptions, forceNew: true, reconnectionDelay: 100 });
  open.push(socket);
  return socket;
}

const heard = (socket, name, is = () => true) =>
  within(new Promise((done) => socket.on(name, (...args) => { if (is(...args)) done(args); })), `event ${name}`);
const answered = (socket, name, data) => within(new Promise((done) => socket.emit(name, data, done)), `the answer to ${name}`);

afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
  endAll();
});

describe("with sio.eio3", () => {
  let server;
  before(async () => { server = await Server.start({ eio3: true, appEvents: true, pingIntervalMs: 1000, pingTimeoutMs: 2000 }); });
  after(() => server.stop());

  for (const transports of Object.keys(TRANSPORTS)) {
    it(`over ${transports}, old and new clients chat`, async () => {
      const room = roomName();
      const olga = old(server, transports);
      await heard(olga, "connect");
      const anna = await connected(server);
      await join(anna, room);
      const state = heard(olga, "room_joined");
      assert.equal((await answered(olga, "join_room", { roomId: room })).ok, true);
      assert.equal((await state)[0].roomId, room);
      const there = once(anna, "new_message", ({ userId }) => userId === "olga");
      const answer = await answered(olga, "send_message", { roomId: room, message: "ü 漢字 🐝" });
      assert.deepEqual([answer.ok, answer.result.offset], [true, 1]);
      assert.equal((await there)[0].message, "ü 漢字 🐝");
      const back = heard(olga, "new_message", ({ userId }) => userId === "anna");
      await say(anna, room, "€ and back 🐝");
      assert.equal((await back)[0].message, "€ and back 🐝");
      const refused = await answered(olga, "send_message", { roomId: roomName(), message: "x" });
      assert.equal(refused.error.code, "not_in_room");
    });

    it(`over ${transports}, the client pings and stays`, async () => {
      const olga = old(server, transports);
      await heard(olga, "connect");
      let isLost = false;
      olga.on("disconnect", () => { isLost = true; });
      for (let pongs = 0; pongs < 4; pongs++) await within(new Promise((done) => olga.once("pong", done)), "a pong");
      assert.equal(isLost, false);
    });

    it(`over ${transports}, bytes go both ways`, async () => {
      const room = roomName();
      const olga = old(server, transports);
      await heard(olga, "connect");
      const anna = await connected(server);
      await join(anna, room);
      await answered(olga, "join_room", { roomId: room });
      const there = once(anna, "bytes");
      olga.emit("bytes", Buffer.from([0, 200, 255]), "from olga");
      assert.deepEqual(Buffer.from((await there)[0]), Buffer.from([0, 200, 255]));
      const back = heard(olga, "bytes");
      anna.emit("bytes", Buffer.from([1, 201, 254]), "from anna");
      assert.deepEqual(Buffer.from((await back)[0]), Buffer.from([1, 201, 254]));
    });
  }
});

describe("without it", () => {
  let server;
  before(async () => { server = await Server.start(); });
  after(() => server.stop());

  it("the handshake is refused with code 5", async () => {
    for (const query of [{ EIO: "3", transport: "polling" }, { transport: "polling" }]) {
      const answer = await ask(server.url, "GET", query);
      assert.deepEqual([answer.status, JSON.parse(answer.body)], [400, { code: 5, message: "Unsupported protocol version" }]);
    }
  });

  it("the old client is told, over each transport", async () => {
    for (const transports of Object.keys(TRANSPORTS)) {
      const olga = old(server, transports);
      await heard(olga, "connect_error");
      assert.equal(olga.connected, false);
      olga.close();
    }
  });
});
