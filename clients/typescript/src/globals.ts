/** What browsers and Node have in common, without the types of either: an application may compile with both or one. */
import type { SocketConstructor } from "./options.js";

export interface Globals {
  /** Node has it from version 22. */
  WebSocket?: SocketConstructor;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  crypto?: { getRandomValues(bytes: Uint8Array): Uint8Array };
  console: { warn(...what: unknown[]): void };
}

export const globals = globalThis as unknown as Globals;
