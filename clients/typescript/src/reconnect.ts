/** When to connect again: what a close code asks for, and how long to wait (R-SDK-2, docs/PROTOCOL.md#close-codes). */

export type AfterClose = "stop" | "new token" | "back off" | "range";

const STOP = [1000, 1002, 1003, 1007, 1009];
const NEW_TOKEN = [4001, 4002, 4003, 4004];

/** By the table, and by the bands for codes of later servers. Lost connections (1006) and all else are tried again. */
export function afterClose(code: number): AfterClose {
  if (NEW_TOKEN.includes(code)) return "new token";
  if (STOP.includes(code) || (code >= 4000 && code <= 4099)) return "stop";
  return code >= 4200 && code <= 4299 ? "range" : "back off";
}

/** Wait before retry 1 is random in 0 to this, and doubles with each further one. */
const FIRST_MS = 1000;
const LONGEST_MS = 30_000;

/** Retry `n` (from 1) waits random(0, min(1000·2^(n−1), 30000)) ms. `random` is in [0, 1). */
export function backOffMs(n: number, random: number): number {
  return random * Math.min(FIRST_MS * 2 ** (n - 1), LONGEST_MS);
}

/** What `server_closing` gives. */
export interface RetryRange {
  retryMinMs: number;
  retryMaxMs: number;
}

/** For a close that asks for a range without having told one. */
export const DEFAULT_RANGE: RetryRange = { retryMinMs: 0, retryMaxMs: 10_000 };

/** Reads the range from whatever came; never negative, never the wrong way round. */
export function retryRange(data: Record<string, unknown>): RetryRange {
  const ms = (value: unknown, otherwise: number) =>
    typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : otherwise;
  const retryMinMs = ms(data["retryMinMs"], DEFAULT_RANGE.retryMinMs);
  return { retryMinMs, retryMaxMs: Math.max(retryMinMs, ms(data["retryMaxMs"], DEFAULT_RANGE.retryMaxMs)) };
}

export function inRangeMs({ retryMinMs, retryMaxMs }: RetryRange, random: number): number {
  return retryMinMs + random * (retryMaxMs - retryMinMs);
}
