// The server under test: Throng in development mode, or, to prove a test right, the reference (reference.mjs).
//
// THRONG_BIN: the program (target/debug/throng). SOCKETIO_SERVER=reference: npm socket.io in its place.
import { spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./tools.mjs";

export const isReference = process.env.SOCKETIO_SERVER === "reference";
const binary = resolve(process.env.THRONG_BIN ?? join(root, "target/debug/throng"));

// For a start, and for an end: a machine may be busy.
const PATIENCE_MS = 60000;

// Where test servers listen; nothing else on the machine should.
const PORTS = { first: 26000, count: 4000 };

// Limits against abuse, which these tests would look like.
const WITHOUT_LIMITS = [
  "limits.connections_per_ip", "limits.handshakes_per_ip", "limits.connections_per_user", "limits.messages",
  "limits.commands", "limits.live",
].map((key) => `${key}=0`);

// What a test asks for, in the words of both servers.
const throngSettings = (options) => [
  ...WITHOUT_LIMITS,
  "sio.namespaces=/,/chat",
  ...(options.pingIntervalMs ? [`sio.ping_interval_ms=${options.pingIntervalMs}`] : []),
  ...(options.pingTimeoutMs ? [`sio.ping_timeout_ms=${options.pingTimeoutMs}`] : []),
  ...(options.maxPayload ? [`sio.max_payload_bytes=${options.maxPayload}`] : []),
  ...(options.eio3 ? ["sio.eio3=true"] : []),
  ...(options.appEvents ? ["sio.app_events=true"] : []),
  ...(options.recoverMs ? [`sio.recovery_ms=${options.recoverMs}`] : []),
  ...(options.origins ? [`http.allowed_origins=${options.origins}`] : []),
  ...(options.settings ?? []),
];

// `options`: pingIntervalMs, pingTimeoutMs, maxPayload, eio3, appEvents, recoverMs, origins; of Throng alone: shards (3) and
// `settings`, further ones as KEY=VALUE. Ports and data stay over `kill` and `start`.
export class Server {
  #options;
  #child = null;
  #ended;
  #port;
  #secret = randomBytes(32).toString("base64url");
  #folder = mkdtempSync(join(tmpdir(), "throng-socketio-"));
  log = "";

  constructor(options = {}) {
    this.#options = options;
  }

  static async start(options) {
    const server = new Server(options);
    server.#port = await freePort();
    await server.start();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  get webSocketUrl() {
    return `ws://127.0.0.1:${this.#port}`;
  }

  async start() {
    const [program, args] = isReference ? this.#reference() : this.#throng();
    this.log = "";
    const env = { ...process.env, RUST_BACKTRACE: "1" };
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => { this.log += bytes; });
    let hasEnded = false;
    this.#ended = new Promise((done) => {
      child.on("error", (error) => { this.log += error; hasEnded = true; done(null); });
      child.on("exit", (code) => { hasEnded = true; done(code); });
    });
    const until = Date.now() + PATIENCE_MS;
    while (!this.log.includes("Stop with Ctrl-C")) {
      if (hasEnded || Date.now() > until) throw new Error(`the server did not start:\n${this.log}`);
      await new Promise((wake) => setTimeout(wake, 20));
    }
  }

  #throng() {
    const { shards = 3 } = this.#options;
    const args = ["serve", "--dev", "--shards", `${shards}`, "--listen", `127.0.0.1:${this.#port}`];
    args.push("--data-dir", join(this.#folder, "data"));
    for (const setting of throngSettings(this.#options)) args.push("--set", setting);
    return [binary, args];
  }

  #reference() {
    const script = fileURLToPath(new URL("reference.mjs", import.meta.url));
    return [process.execPath, [script, `${this.#port}`, JSON.stringify({ ...this.#options, secret: this.#secret })]];
  }

  // A token of this server's own key. `claims` may override all of it.
  token(user, claims = {}) {
    const secret = isReference ? this.#secret : readFileSync(join(this.#folder, "data/dev-secret.key"), "utf8").trim();
    const now = Math.floor(Date.now() / 1000);
    const part = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");
    const text = `${part({ alg: "HS256", kid: "dev", typ: "JWT" })}.${part({ sub: user, exp: now + 3600, ...claims })}`;
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  }

  // Ends it by a signal: SIGKILL, or SIGTERM for a drain. Its exit code; null if the signal ended it.
  async kill(signal = "SIGKILL") {
    const child = this.#child;
    this.#child = null;
    if (child === null) return null;
    child.kill(signal);
    const late = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    const code = await this.#ended;
    clearTimeout(late);
    return code;
  }

  // For the end of a test file. A server that fell over by itself is a failure, whatever the tests say.
  async stop() {
    const wasRunning = this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
    if (!wasRunning) throw new Error(`the server was not running any more:\n${this.log}`);
    if (this.log.includes("panicked")) throw new Error(`the server panicked:\n${this.log}`);
  }
}

async function freePort() {
  for (;;) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    const probe = createServer();
    const isFree = await new Promise((done) => {
      probe.once("error", () => done(false));
      probe.listen(port, "127.0.0.1", () => done(true));
    });
    await new Promise((done) => probe.close(done));
    if (isFree) return port;
  }
}
