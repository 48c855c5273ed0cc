/** One connection: how far it has come, and whether it lives. */
import type { Effects } from "./effects.js";
import { encode, type Json } from "./envelope.js";

/** Heartbeat each so often (R-SDK-3), unless the server names another interval. */
export const HEARTBEAT_MS = 30_000;
/** No frame this long after a heartbeat: the link is dead. */
export const ANSWER_MS = 10_000;

/** What a later connection needs to go on as this one. A secret of this client. */
export interface Session {
  sessionId: string;
  resumeToken: string;
}

/** `opening`: no socket yet. `signing in`: `auth` is out. `resuming`: `resume` is out. `ready`: all commands may go. */
export type Phase = "opening" | "signing in" | "resuming" | "ready";

export class Link {
  phase: Phase = "opening";
  /** `server_closing` came: commands may go unanswered, so durable ones wait for the next connection. */
  isEnding = false;
  /** From `connection_established`: what this connection is if there is nothing to resume. */
  session: Session | null = null;
  /** The `resume` that was sent on it. */
  resumeId: string | null = null;
  #isHeartbeatOut = false;

  constructor(
    readonly id: number,
    /** Of a migration; null for an ordinary connection. */
    readonly migrationToken: string | null,
    readonly effects: Effects,
  ) {}

  get isReady(): boolean {
    return this.phase === "ready";
  }

  /** `data` is JSON. */
  sendJson(id: string, type: string, data: string, now: number): void {
    this.effects.push({ do: "send", link: this.id, text: encode(id, type, data, now) });
  }

  send(id: string, type: string, data: Json, now: number): void {
    this.sendJson(id, type, JSON.stringify(data), now);
  }

  // The token goes into a first message, not into the handshake: a browser does not tell a refused handshake (401) from a
  // broken network, but it shows close code 4002.
  signIn(id: string, token: string, now: number): void {
    this.phase = "signing in";
    const migration: Json = this.migrationToken === null ? {} : { migrationToken: this.migrationToken };
    this.send(id, "auth", { token, ...migration }, now);
  }

  resume(id: string, data: Json, now: number): void {
    this.phase = "resuming";
    this.resumeId = id;
    this.send(id, "resume", data, now);
  }

  /** `answerMs` after it, `answer` fires unless a frame came. */
  heartbeat(id: string, everyMs: number, answerMs: number, now: number): void {
    this.send(id, "heartbeat", { timestamp: now }, now);
    this.effects.start("heartbeat", everyMs);
    if (this.#isHeartbeatOut) return;
    this.#isHeartbeatOut = true;
    this.effects.start("answer", answerMs);
  }

  /** Any frame shows that the link lives. */
  heard(): void {
    if (!this.#isHeartbeatOut) return;
    this.#isHeartbeatOut = false;
    this.effects.stop("answer");
  }
}
