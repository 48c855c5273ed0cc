export { type SendOptions, ThrongClient } from "./client.js";
export type { AskResult, ChatResult, Commands } from "./commands.js";
export type { TokenReason } from "./effects.js";
export { type LocalCode, type ServerError, ThrongError } from "./errors.js";
export type {
  ChatMessage, ClientEvents, ConnectionState, Events, OnlineUser, Position, Role, RoomInfo, RoomState, RoomType, ServerEvents,
} from "./events.js";
export type { Clock, Options, Socket, SocketConstructor, TokenProvider } from "./options.js";
export { type AfterClose, afterClose, backOffMs } from "./reconnect.js";
export type { CommandStorage } from "./storage.js";
