/** What the machine wants done. It does nothing itself: it reads no clock, opens no socket, calls no handler. */
import type { Json } from "./envelope.js";
import type { ThrongError } from "./errors.js";
import type { ClientEvents } from "./events.js";
import type { Stored } from "./outbox.js";

/** Each name is one timer: starting it again replaces it. */
export type TimerName =
  /** Waiting before the next connection. */
  | "retry"
  /** A connection that is being made must get on: socket, sign-in, recovery. */
  | "progress"
  /** Connected long enough: the back-off begins anew. */
  | "steady"
  | "heartbeat"
  /** No frame since the heartbeat: the link is dead. */
  | "answer"
  /** Asking the provider once more for a token. */
  | "refresh"
  /** The oldest command's time is over. */
  | "expiry"
  /** A message that was refused for a while goes again. */
  | "resend"
  /** A join that was refused for a while goes again. */
  | "rejoin"
  /** The connection to the new server of a migration must get on. */
  | "migration";

/** Why a token is wanted: to connect; the one in use ends soon; the server accepted it no longer. */
export type TokenReason = "connect" | "expiring" | "rejected";

export type Effect =
  | { do: "open"; link: number; url: string }
  | { do: "send"; link: number; text: string }
  /** Nothing of this link may be reported any more. Without a code it is cut. */
  | { do: "close"; link: number; code?: number; reason?: string }
  | { do: "start"; timer: TimerName; ms: number }
  | { do: "stop"; timer: TimerName }
  | { do: "ask token"; ask: number; reason: TokenReason }
  /** An event of the server. */
  | { do: "dispatch"; type: string; data: Json }
  /** An event of the client itself. */
  | { do: "tell"; type: keyof ClientEvents; data: ClientEvents[keyof ClientEvents] }
  /** What `connect` has promised: the first connection, or that there will be none. */
  | { do: "connected"; error: ThrongError | null }
  | { do: "settle"; id: string; error: ThrongError | null; result: unknown }
  | { do: "store"; userId: string; entry: Stored }
  | { do: "unstore"; userId: string; id: string };

/** Effects in the order in which they are to be done. */
export class Effects {
  #list: Effect[] = [];

  push(effect: Effect): void {
    this.#list.push(effect);
  }

  start(timer: TimerName, ms: number): void {
    this.push({ do: "start", timer, ms });
  }

  stop(...timers: TimerName[]): void {
    for (const timer of timers) this.push({ do: "stop", timer });
  }

  dispatch(type: string, data: Json): void {
    this.push({ do: "dispatch", type, data });
  }

  tell<T extends keyof ClientEvents>(type: T, data: ClientEvents[T]): void {
    this.push({ do: "tell", type, data });
  }

  take(): Effect[] {
    const list = this.#list;
    this.#list = [];
    return list;
  }
}
