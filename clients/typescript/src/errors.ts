/** Why a command failed: a code of the server (docs/PROTOCOL.md#errors) or one of {@link LocalCode}. */

/** What the client itself decides; all others come from the server. */
export type LocalCode =
  /** Live commands and requests are not kept while there is no connection. */
  | "not_connected"
  /** The connection broke before the answer to a request; it may have taken effect or not. */
  | "connection_lost"
  /** No answer within 300 s, over all repeats. */
  | "timeout"
  /** `queueMax` commands wait already. */
  | "queue_full"
  /** `disconnect()` was called; a message that was on its way may have been stored. */
  | "disconnected"
  /** The data cannot be written as JSON, or the command is the client's own business. */
  | "invalid_argument"
  /** The message would be over the server's `ws.max_message_bytes`, which ends the connection. */
  | "message_too_long"
  /** This id is in use by a command that was not answered yet. */
  | "conflict"
  /** The token names another user than `connect(userId, …)`. */
  | "wrong_user"
  /** The token provider threw; it is asked again. */
  | "token_failed"
  /** The server ended the session, see the `stopped` event. */
  | "stopped"
  /** An event handler of the application threw. */
  | "handler_failed"
  /** The storage threw; commands are kept in memory only. */
  | "storage_failed"
  /** The server sent what is no envelope, or a migration to an address that is not acceptable. */
  | "invalid_format";

const TEXTS: Record<LocalCode, string> = {
  not_connected: "Not connected",
  connection_lost: "The connection was lost before the answer",
  timeout: "No answer in time",
  queue_full: "Too many commands are waiting",
  disconnected: "Disconnected by the application",
  invalid_argument: "Not a command that can be sent",
  message_too_long: "Message too long",
  conflict: "This id is in use",
  wrong_user: "The token is of another user",
  token_failed: "The token provider failed",
  stopped: "The server ended the session",
  handler_failed: "An event handler failed",
  storage_failed: "The storage failed",
  invalid_format: "The server sent something unreadable",
};

/** The `data` of an `error` event of the protocol. */
export interface ServerError {
  code: string;
  message: string;
  retryable: boolean;
  requestId: string | null;
  type?: string;
  field?: string;
  retryAfterMs?: number;
}

export class ThrongError extends Error {
  override readonly name = "ThrongError";
  readonly code: string;
  /** The same command may succeed later without change. */
  readonly retryable: boolean;
  /** With `invalid_argument`: which field. */
  readonly field: string | undefined;
  /** With `rate_limited`, `slow_mode`, `overloaded`: milliseconds to wait. */
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, more: Partial<ServerError> & { cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.retryable = more.retryable ?? false;
    this.field = more.field;
    this.retryAfterMs = more.retryAfterMs;
  }
}

export function localError(code: LocalCode, cause?: unknown): ThrongError {
  const retryable = code === "not_connected" || code === "connection_lost" || code === "queue_full";
  return new ThrongError(code, TEXTS[code], { retryable, cause });
}

/** Any JSON may come: what is missing gets the meaning that is safest for the application. */
export function serverError(data: Record<string, unknown>): ThrongError {
  const more: Partial<ServerError> = { retryable: data["retryable"] === true };
  if (typeof data["field"] === "string") more.field = data["field"];
  if (typeof data["retryAfterMs"] === "number") more.retryAfterMs = data["retryAfterMs"];
  const code = typeof data["code"] === "string" ? data["code"] : "internal";
  return new ThrongError(code, typeof data["message"] === "string" ? data["message"] : code, more);
}
