/** The token in use, and when another one is needed (R-SDK-2). */
import type { Effects, TokenReason } from "./effects.js";

/** A token that ends so soon is not used for a new connection. */
const NEARLY_OVER_MS = 5000;
/** A provider that failed before the token's end is asked again after this. */
export const ASK_AGAIN_MS = 10_000;

export class Tokens {
  /** Whether there is a provider to ask; else one fixed token. */
  hasProvider = false;
  #token: string | null = null;
  /** Unix milliseconds of the server; null: not known yet. */
  #expiresAt: number | null = null;
  /** The server's clock minus ours. */
  #skewMs = 0;
  #wasRejected = false;
  /** Only the newest question's answer counts. */
  #ask = 0;
  #isAsking = false;

  constructor(private readonly effects: Effects) {}

  begin(hasProvider: boolean): void {
    this.hasProvider = hasProvider;
    this.forget();
  }

  forget(): void {
    this.#token = this.#expiresAt = null;
    this.#wasRejected = this.#isAsking = false;
    this.#ask += 1;
  }

  /** The token for a connection that is made now; null: `ask` first. */
  usable(now: number): string | null {
    if (this.#wasRejected) return null;
    const endsAt = this.#expiresAt ?? Infinity;
    return this.hasProvider && now + this.#skewMs >= endsAt - NEARLY_OVER_MS ? null : this.#token;
  }

  ask(reason: Exclude<TokenReason, "rejected">): void {
    this.#isAsking = true;
    this.#ask += 1;
    this.effects.push({ do: "ask token", ask: this.#ask, reason: this.#wasRejected ? "rejected" : reason });
  }

  /** Whether this answers the newest question. */
  isAnswer(ask: number): boolean {
    if (!this.#isAsking || ask !== this.#ask) return false;
    this.#isAsking = false;
    return true;
  }

  /** A later answer does not count any more. */
  stopAsking(): void {
    this.#isAsking = false;
  }

  use(token: string): void {
    this.#token = token;
    this.#expiresAt = null;
    this.#wasRejected = false;
  }

  /** When the token in use ends, as the server says. */
  accepted(expiresAt: unknown): void {
    if (typeof expiresAt === "number") this.#expiresAt = expiresAt;
  }

  clock(serverNow: unknown, now: number): void {
    if (typeof serverNow === "number") this.#skewMs = serverNow - now;
  }

  /** Close 4001 to 4004. */
  rejected(): void {
    this.#wasRejected = true;
  }
}
