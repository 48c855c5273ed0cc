// Programs under test: started, read, and ended by signal.
import { spawn } from "node:child_process";

const PATIENCE_MS = 30000;

// A program whose output is kept.
export class Program {
  log = "";
  #child;
  #ended;

  constructor(file, args, env = process.env) {
    this.#child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on("data", (bytes) => { this.log += bytes; });
    }
    this.#ended = new Promise((done) => {
      this.#child.on("error", (error) => { this.log += error; done(null); });
      this.#child.on("exit", (code) => done(code));
    });
  }

  // Waits until the output matches.
  async prints(what) {
    const until = Date.now() + PATIENCE_MS;
    let hasEnded = false;
    this.#ended.then(() => { hasEnded = true; });
    for (;;) {
      if (typeof what === "string" ? this.log.includes(what) : what.test(this.log)) return this.log;
      if (hasEnded || Date.now() > until) throw new Error(`not printed: ${what}; but: ${this.log}`);
      await new Promise((wake) => setTimeout(wake, 20));
    }
  }

  // Its exit code; null if the signal ended it.
  kill(signal) {
    this.#child.kill(signal);
    return this.#ended;
  }
}

// `throng serve --dev` on one data folder and port, started as often as wanted.
export class Server {
  #program = null;
  #begin;

  constructor(binary, port, dataFolder, settings = []) {
    const options = ["serve", "--dev", "--listen", `127.0.0.1:${port}`, "--data-dir", dataFolder];
    // The usual grace of 10 s is only waited for.
    const sets = ["presence.leave_grace_ms=2000", ...settings].flatMap((setting) => ["--set", setting]);
    this.#begin = () => new Program(binary, [...options, ...sets]);
  }

  get log() {
    return this.#program?.log ?? "";
  }

  // The addresses that it prints: {anna, bob}.
  async start() {
    this.#program = this.#begin();
    const printed = await this.#program.prints(/Stop with Ctrl-C/);
    const address = (user) => printed.match(new RegExp(`^ +${user} +(http://\\S+)$`, "m"))?.[1];
    return { anna: address("anna"), bob: address("bob") };
  }

  async kill(signal) {
    const program = this.#program;
    this.#program = null;
    return program?.kill(signal);
  }
}
