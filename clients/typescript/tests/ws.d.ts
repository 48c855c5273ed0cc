declare module "ws" {
  import type { SocketConstructor } from "@throng/client";
  export const WebSocket: SocketConstructor;
}
