// Peer: npm socket.io on Node.js, WebSocket alone. What it does is said in README.md. Usage: node socketio.js PORT
const http = require("node:http");
const { Server } = require("socket.io");
const { roomEvent } = require("./events.js");

const server = http.createServer();
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

// What a handshake leaves behind is of no more use, and the package's manual advises to drop it.
io.engine.on("connection", (raw) => {
  raw.request = null;
});

io.on("connection", (socket) => {
  socket.on("heartbeat", (data) => {
    socket.emit("heartbeat_response", { timestamp: Date.now(), clientTimestamp: data.timestamp });
  });
  socket.on("broadcast", (data) => {
    const receivers = data.includeSelf ? io : socket;
    receivers.to(data.roomId).emit("broadcast", roomEvent(data, Date.now()));
  });
  socket.on("join_room", (data, answer) => {
    socket.join(data.roomId);
    answer({ ok: true, result: { role: null } });
  });
});

server.listen(Number(process.argv[2]), "127.0.0.1");
