// The packages that .ci/socketio.sh installs: every file of this folder gets them from here.
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(fileURLToPath(import.meta.url), "../../..");
export const toolsFolder = resolve(process.env.SOCKETIO_TOOLS ?? join(root, "target/ci-tools/socketio"));
export const python = join(toolsFolder, "venv/bin/python");

const load = createRequire(join(toolsFolder, "package.json"));
export const { io, Manager } = load("socket.io-client");
export const io2 = load("socket.io-client-2");
export const { Socket: EngineSocket } = load("engine.io-client");
export const { Server: ReferenceServer } = load("socket.io");
export const WebSocket = load("ws");
