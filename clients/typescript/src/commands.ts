/** What a client may ask, and which promise each kind of command keeps. */
import type { ChatMessage, OnlineUser, Position, Role, RoomInfo, RoomType } from "./events.js";

type Empty = Record<string, never>;
interface InRoom {
  roomId: string;
}

interface ChatCommand extends InRoom {
  message: string;
  metadata?: Record<string, unknown>;
  messageType?: "text";
  clientId?: string;
}

export interface ChatResult extends Position {
  messageId: string;
  timestamp: number;
  duplicate: boolean;
}

/** What the others in a room said to a question. */
export interface AskResult {
  askId: number;
  asked: number;
  answers: { userId: string; payload: unknown }[];
  dropped: number;
  isComplete: boolean;
}

type OneSide = { before?: number; after?: never } | { before?: never; after?: number };

/** Command → its data and the result of its ack. */
export interface Commands {
  chat_message: { data: ChatCommand; result: ChatResult };
  send_message: { data: ChatCommand; result: ChatResult };
  join_room: {
    data: InRoom & { roomType?: RoomType; roomToken?: string; recover?: Position };
    result: { role: Role | null };
  };
  leave_room: { data: InRoom & { permanent?: boolean }; result: Empty };
  create_room: {
    data: { type: RoomType; roomId?: string; name?: string; description?: string; recipientId?: string };
    result: RoomInfo;
  };
  update_room: { data: InRoom & { name?: string; description?: string; slowModeSeconds?: number }; result: RoomInfo };
  delete_room: { data: InRoom; result: Empty };
  invite_member: { data: InRoom & { userId: string }; result: Empty };
  remove_member: { data: InRoom & { userId: string }; result: Empty };
  set_role: { data: InRoom & { userId: string; role: Role }; result: Empty };
  get_history: {
    data: InRoom & { limit?: number } & OneSide;
    result: { messages: ChatMessage[]; hasMore: boolean; epoch: string };
  };
  get_online_users: {
    data: InRoom & { cursor?: string; limit?: number };
    result: { onlineUsers: OnlineUser[]; nextCursor?: string; onlineCount: number };
  };
  get_presence: {
    data: { userIds: string[] };
    result: { users: (Pick<OnlineUser, "userId" | "status"> & Partial<OnlineUser>)[] };
  };
  refresh_token: { data: { token: string }; result: { expiresAt: number } };
  broadcast: { data: InRoom & { event: string; payload?: unknown; includeSelf?: boolean }; result: void };
  ask: { data: InRoom & { event: string; payload?: unknown; timeoutMs?: number }; result: AskResult };
  answer: { data: { askId: number; payload?: unknown; roomId?: string }; result: void };
  typing_start: { data: InRoom; result: void };
  typing_stop: { data: InRoom; result: void };
  activity: { data?: Empty; result: void };
}

/**
 * - `durable`: kept while there is no connection, repeated under its first id until answered.
 * - `live`: sent now or never; no ack, so its promise is done when it is written.
 * - `join`, `leave`: kept as the wish to be in the room or not.
 * - `own`: the client does it by itself.
 * - `request`: all others, also of later servers: sent once, fails with the connection.
 */
export type Kind = "durable" | "live" | "join" | "leave" | "own" | "request";

// Only what the server recognises as a repeat (R-CHAT-3) may be durable: another command repeated after a lost ack
// would do its work twice, or fail although it was done.
const KINDS = new Map<string, Kind>([
  ["chat_message", "durable"],
  ["send_message", "durable"],
  ["broadcast", "live"],
  ["answer", "live"],
  ["typing_start", "live"],
  ["typing_stop", "live"],
  ["activity", "live"],
  ["heartbeat", "live"],
  ["join_room", "join"],
  ["leave_room", "leave"],
  ["auth", "own"],
  ["resume", "own"],
]);

export const kindOf = (type: string): Kind => KINDS.get(type) ?? "request";
