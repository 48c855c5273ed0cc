// The real client, npm socket.io-client 4, as the tests use it.
import { strict as assert } from "node:assert";
import { Manager, io } from "./tools.mjs";
import { eventually, within } from "./raw.mjs";

export const TRANSPORTS = { websocket: ["websocket"], polling: ["polling"], upgrading: ["polling", "websocket"] };

const open = new Set();

// A client that connects at once. `options` are those of socket.io-client, and: user (anna), namespace (/), token (one of the
// server's), transports (a key of TRANSPORTS).
export function client(server, { user = "anna", namespace = "/", token, transports = "websocket", ...options } = {}) {
  const socket = io(`${server.url}${namespace === "/" ? "" : namespace}`, {
    auth: { token: token ?? server.token(user) },
    transports: TRANSPORTS[transports],
    forceNew: true,
    reconnectionDelay: 50,
    reconnectionDelayMax: 500,
    ...options,
  });
  open.add(socket);
  return socket;
}

export async function connected(server, options) {
  const socket = client(server, options);
  await once(socket, "connect");
  return socket;
}

// Ends all clients, for the end of a test.
export function endAll() {
  for (const socket of open) socket.disconnect();
  open.clear();
}

// Two namespaces over one connection.
export async function pair(server, namespaces, { user = "anna", transports = "websocket" } = {}) {
  const manager = new Manager(server.url, { transports: TRANSPORTS[transports] });
  const sockets = namespaces.map((name) => manager.socket(name, { auth: { token: server.token(user) } }));
  for (const socket of sockets) open.add(socket);
  await Promise.all(sockets.map((socket) => socket.connected || once(socket, "connect")));
  return { manager, sockets };
}

// The arguments of the next event of a name that `is` accepts.
export function once(socket, name, is = () => true) {
  let listener;
  const event = new Promise((done, fail) => {
    listener = (...args) => { if (is(...args)) done(args); };
    socket.on(name, listener);
    if (name === "connect") socket.once("connect_error", (error) => { if (!socket.active) fail(error); });
  });
  return within(event, `event ${name}`).finally(() => socket.off(name, listener));
}

// The answer of a command that must succeed: its result.
export async function command(socket, name, ...data) {
  const answer = await socket.timeout(20000).emitWithAck(name, ...data);
  assert.equal(answer.ok, true, `${name}: ${JSON.stringify(answer)}`);
  return answer.result;
}

export const join = (socket, roomId) => command(socket, "join_room", { roomId });

// Joins, and waits for the room's state, from which a recovery can begin.
export async function enter(socket, room) {
  const state = once(socket, "room_joined", ({ roomId }) => roomId === room);
  await join(socket, room);
  await state;
}

export const say = (socket, roomId, message) => command(socket, "send_message", { roomId, message });

// Everything of a name that comes from now on, in order.
export function collect(socket, name, what = (data) => data) {
  const list = [];
  socket.on(name, (...args) => list.push(what(...args)));
  return list;
}

export async function reaches(list, length, what) {
  await eventually(() => list.length >= length, `${length} of ${what}; there are ${list.length}`);
}

export const transportOf = (socket) => socket.io.engine.transport.name;
export const texts = (socket) => collect(socket, "new_message", ({ message }) => message);
export const range = (from, to) => Array.from({ length: to - from }, (_, n) => `m${from + n}`);
export const roomName = (() => { let count = 0; return () => `room-${process.pid}-${++count}`; })();
