// Questions of one client that others answer: `ask`, in the chat's words (`question`) and with --app-events (any event), for npm
// socket.io-client 4 and 2 and native clients. Python's are in python_client.py. On an npm socket.io server the server asks; here its
// clients do, so that there is nothing to compare with.
import { strict as assert } from "node:assert";
import { after, afterEach, before, describe, it } from "node:test";
import { TRANSPORTS, collect, command, connected, endAll, join, once, roomName } from "./clients.mjs";
import { eventually, within } from "./raw.mjs";
import { Server, isReference } from "./server.mjs";
import { WebSocket, io2 } from "./tools.mjs";

afterEach(endAll);

// Several, all in one room.
async function inRoom(server, transports, roomId, users) {
  const sockets = [];
  for (const user of users) {
    const socket = await connected(server, { transports, user });
    await join(socket, roomId);
    sockets.push(socket);
  }
  return sockets;
}

describe("the chat's questions", { skip: isReference }, () => {
  let server;
  before(async () => { server = await Server.start(); });
  after(() => server.stop());

  for (const transports of Object.keys(TRANSPORTS)) {
    it(`over ${transports}, a question goes to the others, and their answers come back together`, async () => {
      const room = roomName();
      const [anna, bob, carol] = await inRoom(server, transports, room, ["anna", "bob", "carol"]);
      const own = collect(anna, "question");
      const questions = collect(bob, "question");
      bob.on("question", ({ payload }, reply) => reply({ choice: payload[0] }));
      carol.on("question", (_, reply) => setTimeout(() => reply("later", "ignored"), 20));
      const asked = await command(anna, "ask", { roomId: room, event: "vote", payload: ["tea", "coffee"] });
      assert.deepEqual(
        [asked.asked, asked.isComplete, asked.dropped, asked.answers],
        [2, true, 0, [{ userId: "bob", payload: { choice: "tea" } }, { userId: "carol", payload: "later" }]],
      );
      const { timestamp, ...question } = questions[0];
      const expected = { roomId: room, userId: "anna", event: "vote", payload: ["tea", "coffee"], askId: asked.askId };
      assert.deepEqual([question, typeof timestamp], [expected, "number"]);
      assert.deepEqual(own, []);
    });

    it(`over ${transports}, who does not answer in time is not waited for, and is told so`, async () => {
      const room = roomName();
      const [anna, bob] = await inRoom(server, transports, room, ["anna", "bob"]);
      const question = once(bob, "question");
      const asked = await command(anna, "ask", { roomId: room, event: "vote", timeoutMs: 200 });
      assert.deepEqual([asked.asked, asked.isComplete, asked.answers], [1, false, []]);
      const [, reply] = await question;
      const error = once(bob, "error");
      reply("too late");
      assert.equal((await error)[0].code, "not_found");
      const refused = await anna.timeout(20000).emitWithAck("ask", { roomId: room, event: "vote", timeoutMs: 6000 });
      assert.deepEqual([refused.error.code, refused.error.field], ["invalid_argument", "timeoutMs"]);
    });

    it(`over ${transports}, answers may be buffers`, async () => {
      const room = roomName();
      const [anna, bob] = await inRoom(server, transports, room, ["anna", "bob"]);
      bob.on("question", ({ payload }, reply) => reply({ got: Buffer.from(payload).toString(), back: Buffer.from([0, 255]) }));
      const { answers } = await command(anna, "ask", { roomId: room, event: "bytes", payload: Buffer.from("there") });
      assert.equal(answers[0].payload.got, "there");
      assert.deepEqual(Buffer.from(answers[0].payload.back), Buffer.from([0, 255]));
    });
  }

  it("clients of both protocols ask and answer each other", async () => {
    const room = roomName();
    const [anna] = await inRoom(server, "websocket", room, ["anna"]);
    const nina = new WebSocket(`${server.webSocketUrl}/ws`, { headers: { authorization: `Bearer ${server.token("nina")}` } });
    const events = [];
    nina.on("message", (text) => events.push(JSON.parse(text)));
    const find = (is) => eventually(() => events.find(is), "a native message");
    const send = (type, data) => nina.send(JSON.stringify({ id: type, type, data }));
    await find(({ type }) => type === "connection_established");
    send("join_room", { roomId: room });
    await find(({ type }) => type === "room_state");
    anna.on("question", ({ event, payload }, reply) => reply([event, payload]));
    send("ask", { roomId: room, event: "from native", payload: 1 });
    const asked = await find(({ data }) => data.requestId === "ask");
    assert.deepEqual(asked.data.result.answers, [{ userId: "anna", payload: ["from native", 1] }]);
    const question = command(anna, "ask", { roomId: room, event: "e" });
    const { askId } = (await find(({ type }) => type === "question")).data;
    send("answer", { roomId: room, askId, payload: "native answer" });
    assert.deepEqual((await question).answers, [{ userId: "nina", payload: "native answer" }]);
    nina.close();
  });
});

describe("questions of an application", { skip: isReference }, () => {
  let server;
  before(async () => { server = await Server.start({ appEvents: true, eio3: true }); });
  after(() => server.stop());

  const two = async (transports) => {
    const roomId = roomName();
    return [...await inRoom(server, transports, roomId, ["anna", "bob"]), roomId];
  };

  for (const transports of Object.keys(TRANSPORTS)) {
    it(`over ${transports}, an event may be asked, in a room or the namespace, with its own name and arguments`, async () => {
      const [anna, bob, roomId] = await two(transports);
      const carol = await connected(server, { transports, user: "carol" });
      bob.on("vote", (where, tea, text, reply) => reply({ where, tea, text }, "no second"));
      carol.on("vote", (where, tea, text, reply) => reply(`carol: ${text}`));
      const asked = await command(anna, "ask", "vote", { roomId }, Buffer.from("tea"), "last");
      assert.deepEqual([asked.asked, asked.isComplete, asked.answers[0].userId], [1, true, "bob"]);
      const { where, tea, text } = asked.answers[0].payload;
      assert.deepEqual([where, Buffer.from(tea).toString(), text], [{ roomId }, "tea", "last"]);
      const all = await command(anna, "ask", "vote", 1, 2, "1700000000000.99.epoch.room");
      assert.deepEqual([all.asked, all.isComplete], [2, true]);
      const answers = Object.fromEntries(all.answers.map(({ userId, payload }) => [userId, payload]));
      assert.equal(answers.carol, "carol: 1700000000000.99.epoch.room");
      assert.deepEqual(answers.bob, { where: 1, tea: 2, text: "1700000000000.99.epoch.room" });
      const stranger = await connected(server, { transports, user: "stranger" });
      const refused = await stranger.timeout(20000).emitWithAck("ask", "vote", { roomId });
      assert.equal(refused.error.code, "not_in_room");
    });

    it(`over ${transports}, the usual form of a timeout gives up by itself; the server's is not waited for`, async () => {
      const [anna, bob, roomId] = await two(transports);
      await assert.rejects(anna.timeout(100).emitWithAck("ask", "silence", { roomId }), /timed out/);
      bob.once("silence", (_, reply) => reply("not silent"));
      const asked = await command(anna, "ask", { roomId, event: "silence", payload: [1], timeoutMs: 4000 });
      assert.deepEqual(asked.answers, [{ userId: "bob", payload: "not silent" }]);
    });

    it(`over ${transports}, names of questions and answers stay the application's`, async () => {
      const [anna, bob] = await two(transports);
      for (const name of ["question", "answer"]) {
        const event = once(bob, name);
        assert.equal((await anna.timeout(20000).emitWithAck(name, { sdp: "x" })).ok, true);
        assert.deepEqual((await event)[0], { sdp: "x" });
      }
      // The server's own name is not to be had by asking, either.
      bob.once("broadcast", ({ event, askId }, reply) => reply([event, typeof askId]));
      const asked = await command(anna, "ask", "new_message", 1);
      assert.deepEqual(asked.answers.find(({ userId }) => userId === "bob").payload, ["new_message", "number"]);
    });

    it(`over ${transports}, a client of version 2 asks and answers`, async () => {
      const room = roomName();
      const [anna] = await inRoom(server, "websocket", room, ["anna"]);
      const extraHeaders = { authorization: `Bearer ${server.token("olga")}` };
      const transportOptions = { polling: { extraHeaders }, websocket: { extraHeaders } };
      const olga = io2(server.url, { transports: TRANSPORTS[transports], transportOptions, forceNew: true });
      await within(new Promise((done) => olga.on("connect", done)), "connect");
      await within(new Promise((done) => olga.emit("join_room", { roomId: room }, done)), "the answer to join_room");
      anna.on("vote", ({ n }, reply) => reply(n + 1));
      const asked = await within(new Promise((done) => olga.emit("ask", "vote", { roomId: room, n: 1 }, done)), "answers");
      assert.deepEqual([asked.result.asked, asked.result.answers], [1, [{ userId: "anna", payload: 2 }]]);
      olga.on("vote", ({ n }, bytes, reply) => reply({ n, bytes }));
      const { answers } = await command(anna, "ask", "vote", { roomId: room, n: 3 }, Buffer.from([4]));
      assert.equal(answers[0].payload.n, 3);
      assert.deepEqual(Buffer.from(answers[0].payload.bytes), Buffer.from([4]));
      olga.close();
    });
  }
});
