/** The frames of the protocol (R-ENV-1): one JSON object each, `{id, type, data, timestamp}`. */

export type Json = Record<string, unknown>;

/** `ws.max_message_bytes` of the server: a longer message ends the connection with 1009. */
export const MESSAGE_BYTES_MAX = 65_536;

export interface Frame {
  type: string;
  data: Json;
}

export const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A command as it goes out; `data` is JSON already. */
export function encode(id: string, type: string, data: string, now: number): string {
  return `{"id":${JSON.stringify(id)},"type":${JSON.stringify(type)},"data":${data},"timestamp":${Math.round(now)}}`;
}

/** Null for what is no envelope. */
export function decode(text: unknown): Frame | null {
  if (typeof text !== "string") return null;
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value) || typeof value["type"] !== "string") return null;
    return { type: value["type"], data: isObject(value["data"]) ? value["data"] : {} };
  } catch {
    return null;
  }
}

/** Whether the text has more than `limit` bytes in UTF-8; counts only when it must. */
export function isLongerThan(text: string, limit: number): boolean {
  if (text.length > limit) return true;
  if (text.length * 3 <= limit) return false;
  let bytes = 0;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    // A surrogate is half of a character of 4 bytes.
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff)) bytes += 2;
    else bytes += 3;
  }
  return bytes > limit;
}
