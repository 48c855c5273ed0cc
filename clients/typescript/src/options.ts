/** What a client can be told, and what it takes from its surroundings. */
import type { TokenReason } from "./effects.js";
import { MESSAGE_BYTES_MAX } from "./envelope.js";
import type { ClientEvents } from "./events.js";
import { globals } from "./globals.js";
import { ANSWER_MS } from "./link.js";
import type { CommandStorage } from "./storage.js";

/** What is used of a WebSocket: the browser's, Node's, or the one of npm `ws`. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  /** Of `ws`: cuts a connection that does not answer any more. */
  terminate?(): void;
}

export type SocketConstructor = new (url: string, protocols: string[]) => Socket;

export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** Null: there is no token, and asking again is no use. A rejection is asked again after a while. */
export type TokenProvider = (reason: TokenReason) => string | null | Promise<string | null>;

export interface Options {
  /** `ws://…/ws` or `wss://…/ws`. */
  url: string;
  /** Default: `globalThis.WebSocket`, which Node has from version 22. */
  WebSocket?: SocketConstructor;
  /** Retries in a row before the client gives up. Default: unlimited. */
  maxReconnectAttempts?: number;
  /** Durable commands that may wait at most. Default: 1000. */
  queueMax?: number;
  /** Keeps waiting durable commands over reloads, such as `sessionStorage`. Default: they end with the page. */
  storage?: CommandStorage | null;
  /** Begin of the storage's keys. Default: "throng". */
  storagePrefix?: string;
  /** Default: as the server says, which is 30000. */
  heartbeatMs?: number;
  /** No frame so long after a heartbeat: reconnect. Default: 10000. */
  heartbeatTimeoutMs?: number;
  /** A connection attempt that makes no progress for so long is given up. Default: 15000. */
  connectTimeoutMs?: number;
  /** The server's `ws.max_message_bytes`, if it is another than 65536. */
  maxMessageBytes?: number;
  /** For tests. */
  clock?: Clock;
  /** For tests: in [0, 1). */
  random?: () => number;

  /** The same as `on("state", …)` and so on. */
  onStateChange?: (data: ClientEvents["state"]) => void;
  onRecovered?: (data: ClientEvents["recovered"]) => void;
  onStopped?: (data: ClientEvents["stopped"]) => void;
  onMaxReconnectAttemptsReached?: (data: ClientEvents["max_reconnect_attempts"]) => void;
  onUnknown?: (data: ClientEvents["unknown"]) => void;
  onError?: (error: ClientEvents["error"]) => void;
}

const CONNECT_TIMEOUT_MS = 15_000;
const QUEUE_MAX = 1000;

/** Throws TypeError for what can never work. */
export function settingsOf(options: Options) {
  if (!/^wss?:\/\/./.test(options.url)) throw new TypeError(`not a ws:// or wss:// address: ${options.url}`);
  return {
    url: options.url,
    maxReconnectAttempts: options.maxReconnectAttempts ?? null,
    queueMax: options.queueMax ?? QUEUE_MAX,
    messageBytesMax: options.maxMessageBytes ?? MESSAGE_BYTES_MAX,
    heartbeatMs: options.heartbeatMs ?? null,
    answerMs: options.heartbeatTimeoutMs ?? ANSWER_MS,
    progressMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
  };
}

export function socketConstructor(options: Options): SocketConstructor {
  const constructor = options.WebSocket ?? globals.WebSocket;
  if (!constructor) throw new TypeError("no WebSocket here: give one as option `WebSocket`, such as that of npm `ws`");
  return constructor;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => globals.setTimeout(run, ms),
  clearTimeout: (timer) => globals.clearTimeout(timer),
};

/** Ids of this client: unlike those of any other, in this process or elsewhere. At most 32 characters. */
export function idSource(): () => string {
  const bytes = globals.crypto?.getRandomValues(new Uint8Array(10)) ?? Array.from({ length: 10 }, () => Math.random() * 256);
  const prefix = Array.from(bytes, (byte) => (byte | 0).toString(16).padStart(2, "0")).join("");
  let count = 0;
  return () => `${prefix}-${(count += 1)}`;
}
