/** The real server, started, killed and started again on one data folder. */
import { strict as assert } from "node:assert";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after } from "node:test";

const PATIENCE_MS = 15_000;
/** The server's exit code for a port in use. */
const PORT_IN_USE = 5;

/** Listening ports stay below those that the kernel gives to outgoing connections. */
let nextPort = 20_000 + ((process.pid * 37) % 11_000);
export const freshPort = (): number => (nextPort += 1);

function binary(): string {
  const path = resolve(process.env["THRONG_BIN"] ?? join(import.meta.dirname, "../../../target/debug/throng"));
  assert.ok(existsSync(path), `no server at ${path}: set THRONG_BIN to the program throng`);
  return path;
}

export class Server {
  readonly folder = mkdtempSync(join(tmpdir(), "throng-sdk-"));
  port = freshPort();
  #child: ChildProcess | null = null;
  #ended: Promise<number | null> = Promise.resolve(null);
  #log = "";

  constructor(readonly settings: string[] = []) {
    after(async () => {
      await this.kill("SIGKILL");
      rmSync(this.folder, { recursive: true, force: true });
    });
  }

  /** Ready for connections when it returns. */
  async start(): Promise<void> {
    for (;;) {
      const generous = ["limits.messages=1000000", "limits.commands=100000", "limits.handshakes_per_ip=1000"];
      const keys = [...generous, ...this.settings].flatMap((setting) => ["--set", setting]);
      const args = ["serve", "--dev", "--listen", `127.0.0.1:${this.port}`, "--data-dir", this.folder, ...keys];
      const child = spawn(binary(), args, { stdio: ["ignore", "pipe", "pipe"] });
      this.#child = child;
      this.#log = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (this.#log += bytes));
      let code: number | null | undefined;
      this.#ended = new Promise((done) => child.on("exit", (exit) => done((code = exit))));
      await until("the server is ready", () => this.#log.includes("is ready on") || code !== undefined);
      if (code === undefined) return;
      assert.equal(code, PORT_IN_USE, this.#log);
      this.port = freshPort();
    }
  }

  /** Its exit code; null if the signal ended it. */
  async kill(signal: NodeJS.Signals): Promise<number | null> {
    this.#child?.kill(signal);
    this.#child = null;
    return this.#ended;
  }

  token(user: string, ttl = "1h"): string {
    const args = ["token", "--data-dir", this.folder, "--user", user, "--ttl", ttl];
    return execFileSync(binary(), args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));

/** Waits until it is so; names what is not. */
export async function until(what: string, isSo: () => boolean, patienceMs = PATIENCE_MS): Promise<void> {
  for (const end = Date.now() + patienceMs; !isSo(); await sleep(5)) {
    if (Date.now() > end) assert.fail(`not within ${patienceMs} ms: ${what}`);
  }
}
