// The reference: npm socket.io with as much of Throng's vocabulary as the tests speak. What a test expects of Throng must hold
// here too, unless it says otherwise. Usage: node reference.mjs PORT [JSON]; the JSON is what server.mjs passes on:
// {secret, pingIntervalMs, pingTimeoutMs, maxPayload, eio3, appEvents, recoverMs, origins}.
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { ReferenceServer } from "./tools.mjs";

const [port, json] = process.argv.slice(2);
const options = JSON.parse(json ?? "{}");
const http = createServer();
const io = new ReferenceServer(http, {
  pingInterval: options.pingIntervalMs ?? 25000,
  pingTimeout: options.pingTimeoutMs ?? 20000,
  maxHttpBufferSize: options.maxPayload ?? 1e6,
  allowEIO3: options.eio3 ?? false,
  perMessageDeflate: false,
  httpCompression: false,
  cors: options.origins ? { origin: options.origins.split(","), credentials: true } : undefined,
  connectionStateRecovery: { maxDisconnectionDuration: options.recoverMs ?? 120000 },
});

// The user of a token; undefined if it is no good one.
function userOf(token) {
  const [head, body, signature] = String(token).split(".");
  const expected = createHmac("sha256", options.secret ?? "").update(`${head}.${body}`).digest("base64url");
  if (signature !== expected) return undefined;
  const claims = JSON.parse(Buffer.from(body, "base64url").toString());
  return claims.exp * 1000 > Date.now() ? claims.sub : undefined;
}

const failure = (code) => ({ code, message: code, retryable: false });

// Per room of all namespaces: the offset of the last message.
const offsets = new Map();

function serve(namespace) {
  namespace.use((socket, next) => {
    const { auth, query, headers } = socket.handshake;
    const token = auth.token ?? query.token ?? headers.authorization?.replace("Bearer ", "");
    socket.data.userId = userOf(token);
    if (socket.data.userId) return next();
    const code = token === undefined ? "auth_required" : "auth_failed";
    next(Object.assign(new Error(code), { data: failure(code) }));
  });
  namespace.on("connection", (socket) => {
    const { userId } = socket.data;
    const answer = (ack, command) => {
      const result = command();
      if (ack) ack(typeof result === "string" ? { ok: false, error: failure(result) } : { ok: true, result: result ?? {} });
      else if (typeof result === "string") socket.emit("error", failure(result));
    };
    const isMember = (roomId) => socket.rooms.has(`room:${roomId}`);
    if (!socket.recovered) socket.emit("connection_established", { userId, timestamp: Date.now() });
    socket.onAny((name, ...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
      const data = args[0];
      switch (name) {
        case "join_room":
          answer(ack, () => {
            socket.join(`room:${data.roomId}`);
            socket.to(`room:${data.roomId}`).emit("user_joined", { roomId: data.roomId, userId });
            return { role: null };
          });
          socket.emit("room_joined", { roomId: data.roomId, recentMessages: [], users: [userId] });
          break;
        case "leave_room":
          answer(ack, () => isMember(data.roomId) ? void socket.leave(`room:${data.roomId}`) : "not_in_room");
          break;
        case "send_message":
          answer(ack, () => {
            if (!isMember(data.roomId)) return "not_in_room";
            const message = data.message?.trim();
            if (!message) return "empty_message";
            const offset = (offsets.get(data.roomId) ?? 0) + 1;
            offsets.set(data.roomId, offset);
            const event = { id: `msg_${offset}`, roomId: data.roomId, userId, message, offset, epoch: "e", clientId: data.clientId };
            setImmediate(() => namespace.to(`room:${data.roomId}`).emit("new_message", event));
            return { messageId: event.id, offset, epoch: "e", timestamp: Date.now(), duplicate: false };
          });
          break;
        case "broadcast":
          answer(ack, () => {
            if (!isMember(data.roomId)) return "not_in_room";
            (data.includeSelf ? namespace : socket).to(`room:${data.roomId}`)
              .emit("broadcast", { roomId: data.roomId, userId, event: data.event, payload: data.payload });
          });
          break;
        case "typing_start":
        case "typing_stop":
          socket.to(`room:${data.roomId}`).emit("user_typing", { roomId: data.roomId, userId, isTyping: name === "typing_start" });
          ack?.({ ok: true, result: {} });
          break;
        case "heartbeat":
          socket.emit("heartbeat_response", { timestamp: Date.now(), clientTimestamp: data?.timestamp });
          break;
        default: {
          if (!options.appEvents) {
            answer(ack, () => "unknown_type");
            break;
          }
          const roomId = typeof data?.roomId === "string" ? data.roomId : undefined;
          if (name === "join") answer(ack, () => void socket.join(`room:${data.roomId ?? data}`));
          else if (name === "leave") answer(ack, () => void socket.leave(`room:${data.roomId ?? data}`));
          else {
            answer(ack, () => {
              if (roomId !== undefined && !isMember(roomId)) return "not_in_room";
              (roomId === undefined ? socket.broadcast : socket.to(`room:${roomId}`)).emit(name, ...args);
            });
          }
        }
      }
    });
  });
}

serve(io.of("/"));
serve(io.of("/chat"));
http.listen(Number(port), "127.0.0.1", () => console.log(`npm socket.io on port ${port}. Stop with Ctrl-C.`));
