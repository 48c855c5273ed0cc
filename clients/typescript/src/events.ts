/** What the server tells, by type (docs/PROTOCOL.md), and what the client tells of itself. */
import type { ThrongError } from "./errors.js";

/** Where a room's reader stands: the stream's epoch and the last durable event that was applied. */
export interface Position {
  epoch: string;
  offset: number;
}

export type RoomType = "public" | "private" | "direct";
export type Role = "owner" | "moderator" | "member";

export interface RoomInfo {
  id: string;
  name: string;
  description: string;
  /** Unix milliseconds, as all times here. */
  createdAt: number;
  memberCount: number;
  type: RoomType;
  slowModeSeconds: number;
}

export interface ChatMessage extends Position {
  id: string;
  roomId: string;
  userId: string;
  userEmail?: string;
  message: string;
  messageType: string;
  metadata: Record<string, unknown>;
  timestamp: number;
  edited: boolean;
  editedAt?: number;
  deleted: boolean;
  reactions: Record<string, string[]>;
  reactionCounts: Record<string, number>;
  /** The sender's id of the message, as `sendMessage` made or got it. */
  clientId?: string;
  threadId?: string;
}

export interface OnlineUser {
  userId: string;
  userEmail?: string;
  status: "online" | "idle" | "offline";
  lastActivity: number;
}

/** A snapshot, or with `recovered: true` the end of a gap: then what was missed comes as single events behind it. */
export interface RoomState extends Position {
  roomId: string;
  roomInfo: RoomInfo;
  /** Missing with `recovered: true`: keep what you show. */
  recentMessages?: ChatMessage[];
  users: string[];
  onlineUsers: OnlineUser[];
  onlineCount: number;
  role: Role | null;
  recovered?: boolean;
  timestamp: number;
}

interface Member extends Position {
  roomId: string;
  userId: string;
  timestamp: number;
}

interface Presence {
  roomId: string;
  userId: string;
  userEmail?: string;
  timestamp: number;
}

/** Events of the server, each with the type of its data. */
export interface ServerEvents {
  connection_established: {
    connectionId: string;
    sessionId: string;
    resumeToken: string;
    userId: string;
    expiresAt: number;
    heartbeatMs: number;
    timestamp: number;
  };
  room_state: RoomState;
  chat_message: ChatMessage;
  broadcast: { roomId: string; userId: string; event: string; payload?: unknown; timestamp: number };
  question: { roomId: string; userId: string; event: string; payload?: unknown; askId: number; timestamp: number };
  typing_indicator: Presence & { isTyping: boolean };
  user_joined: Presence;
  user_left: Presence;
  room_occupancy: { roomId: string; online: number; members: number };
  room_closed: { roomId: string; reason: string };
  room_updated: Member & { updatedBy: string; name?: string; description?: string; slowModeSeconds?: number };
  member_added: Member & { addedBy: string; role: string };
  member_removed: Member & { removedBy: string };
  role_changed: Member & { changedBy: string; role: Role };
  token_expiring: { expiresAt: number };
  server_closing: { retryMinMs: number; retryMaxMs: number };
  heartbeat_response: { timestamp: number; clientTimestamp?: number };
  migrate: { type: string; newServerUrl: string; migrationToken: string; timestamp: number };
}

/** Types that go to their handlers, or nowhere if there is none; all others go to `unknown`. */
const KNOWN: Record<keyof ServerEvents, true> = {
  connection_established: true,
  room_state: true,
  chat_message: true,
  broadcast: true,
  question: true,
  typing_indicator: true,
  user_joined: true,
  user_left: true,
  room_occupancy: true,
  room_closed: true,
  room_updated: true,
  member_added: true,
  member_removed: true,
  role_changed: true,
  token_expiring: true,
  server_closing: true,
  heartbeat_response: true,
  migrate: true,
};

export const isKnown = (type: string): boolean => Object.hasOwn(KNOWN, type);

export type ConnectionState = "connecting" | "connected" | "disconnected" | "reconnecting";

/** Events of the client itself. */
export interface ClientEvents {
  /** `retryInMs`: while reconnecting, how long until the next attempt; missing during an attempt. */
  state: { state: ConnectionState; attempt: number; retryInMs?: number };
  /** Once per room after a lost connection or a gap. False: something is missing, a `room_state` follows. */
  recovered: { roomId: string; recovered: boolean };
  /** A room is left against the application's will: it may not be joined any more. */
  room_lost: { roomId: string; error: ThrongError };
  /** A message was refused for a while and will be sent again, such as by `rate_limited`. */
  delayed: { id: string; error: ThrongError; retryInMs: number };
  /** A message of the queue has its result, also one of an earlier page that `storage` brought. */
  settled: { id: string; type: string; data: Record<string, unknown>; error: ThrongError | null; result: unknown };
  /** The client will not connect again by itself. */
  stopped: { code: number; reason: string; newTokenNeeded: boolean };
  max_reconnect_attempts: { attempts: number };
  /** What no promise reports: a refused live command, a throwing handler, a failing storage. */
  error: ThrongError;
  /** An event type that this version does not know and that has no handler. */
  unknown: { type: string; data: Record<string, unknown> };
}

/** Names that no event of a server can take. */
const OWN: Record<keyof ClientEvents, true> = {
  state: true,
  recovered: true,
  room_lost: true,
  delayed: true,
  settled: true,
  stopped: true,
  max_reconnect_attempts: true,
  error: true,
  unknown: true,
};

export const isOwn = (type: string): boolean => Object.hasOwn(OWN, type);

export type Events = ServerEvents & ClientEvents;
