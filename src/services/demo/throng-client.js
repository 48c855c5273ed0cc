// Generated from clients/typescript/src by clients/typescript/build-demo.sh: change it there.
const KINDS = new Map([
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
const kindOf = (type) => KINDS.get(type) ?? "request";
const TEXTS = {
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
class ThrongError extends Error {
    name = "ThrongError";
    code;
    retryable;
    field;
    retryAfterMs;
    constructor(code, message, more = {}) {
        super(message, more.cause === undefined ? undefined : { cause: more.cause });
        this.code = code;
        this.retryable = more.retryable ?? false;
        this.field = more.field;
        this.retryAfterMs = more.retryAfterMs;
    }
}
function localError(code, cause) {
    const retryable = code === "not_connected" || code === "connection_lost" || code === "queue_full";
    return new ThrongError(code, TEXTS[code], { retryable, cause });
}
function serverError(data) {
    const more = { retryable: data["retryable"] === true };
    if (typeof data["field"] === "string")
        more.field = data["field"];
    if (typeof data["retryAfterMs"] === "number")
        more.retryAfterMs = data["retryAfterMs"];
    const code = typeof data["code"] === "string" ? data["code"] : "internal";
    return new ThrongError(code, typeof data["message"] === "string" ? data["message"] : code, more);
}
const KNOWN = {
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
const isKnown = (type) => Object.hasOwn(KNOWN, type);
const OWN = {
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
const isOwn = (type) => Object.hasOwn(OWN, type);
const globals = globalThis;
class Handlers {
    #byType = new Map();
    on(type, handler) {
        let handlers = this.#byType.get(type);
        if (!handlers)
            this.#byType.set(type, (handlers = new Set()));
        handlers.add(handler);
        return () => handlers.delete(handler);
    }
    tell(type, data) {
        if (!this.#call(type, data) && type === "error")
            globals.console.warn("throng:", data);
    }
    dispatch(type, data) {
        if (isOwn(type) || (!this.#call(type, data) && !isKnown(type)))
            this.tell("unknown", { type, data });
    }
    #call(type, data) {
        const handlers = this.#byType.get(type);
        if (!handlers?.size)
            return false;
        for (const handler of [...handlers]) {
            try {
                const result = handler(data);
                if (result instanceof Promise)
                    result.catch((thrown) => this.#failed(type, thrown));
            }
            catch (thrown) {
                this.#failed(type, thrown);
            }
        }
        return true;
    }
    #failed(type, thrown) {
        const error = localError("handler_failed", thrown);
        if (type === "error")
            globals.console.warn("throng:", error);
        else
            this.tell("error", error);
    }
}
const MESSAGE_BYTES_MAX = 65_536;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
function encode(id, type, data, now) {
    return `{"id":${JSON.stringify(id)},"type":${JSON.stringify(type)},"data":${data},"timestamp":${Math.round(now)}}`;
}
function decode(text) {
    if (typeof text !== "string")
        return null;
    try {
        const value = JSON.parse(text);
        if (!isObject(value) || typeof value["type"] !== "string")
            return null;
        return { type: value["type"], data: isObject(value["data"]) ? value["data"] : {} };
    }
    catch {
        return null;
    }
}
function isLongerThan(text, limit) {
    if (text.length > limit)
        return true;
    if (text.length * 3 <= limit)
        return false;
    let bytes = 0;
    for (let at = 0; at < text.length; at += 1) {
        const unit = text.charCodeAt(at);
        if (unit < 0x80)
            bytes += 1;
        else if (unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff))
            bytes += 2;
        else
            bytes += 3;
    }
    return bytes > limit;
}
const HEARTBEAT_MS = 30_000;
const ANSWER_MS = 10_000;
class Link {
    id;
    migrationToken;
    effects;
    phase = "opening";
    isEnding = false;
    session = null;
    resumeId = null;
    #isHeartbeatOut = false;
    constructor(id, migrationToken, effects) {
        this.id = id;
        this.migrationToken = migrationToken;
        this.effects = effects;
    }
    get isReady() {
        return this.phase === "ready";
    }
    sendJson(id, type, data, now) {
        this.effects.push({ do: "send", link: this.id, text: encode(id, type, data, now) });
    }
    send(id, type, data, now) {
        this.sendJson(id, type, JSON.stringify(data), now);
    }
    signIn(id, token, now) {
        this.phase = "signing in";
        const migration = this.migrationToken === null ? {} : { migrationToken: this.migrationToken };
        this.send(id, "auth", { token, ...migration }, now);
    }
    resume(id, data, now) {
        this.phase = "resuming";
        this.resumeId = id;
        this.send(id, "resume", data, now);
    }
    heartbeat(id, everyMs, answerMs, now) {
        this.send(id, "heartbeat", { timestamp: now }, now);
        this.effects.start("heartbeat", everyMs);
        if (this.#isHeartbeatOut)
            return;
        this.#isHeartbeatOut = true;
        this.effects.start("answer", answerMs);
    }
    heard() {
        if (!this.#isHeartbeatOut)
            return;
        this.#isHeartbeatOut = false;
        this.effects.stop("answer");
    }
}
const STOP = [1000, 1002, 1003, 1007, 1009];
const NEW_TOKEN = [4001, 4002, 4003, 4004];
function afterClose(code) {
    if (NEW_TOKEN.includes(code))
        return "new token";
    if (STOP.includes(code) || (code >= 4000 && code <= 4099))
        return "stop";
    return code >= 4200 && code <= 4299 ? "range" : "back off";
}
const FIRST_MS = 1000;
const LONGEST_MS = 30_000;
function backOffMs(n, random) {
    return random * Math.min(FIRST_MS * 2 ** (n - 1), LONGEST_MS);
}
const DEFAULT_RANGE = { retryMinMs: 0, retryMaxMs: 10_000 };
function retryRange(data) {
    const ms = (value, otherwise) => typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : otherwise;
    const retryMinMs = ms(data["retryMinMs"], DEFAULT_RANGE.retryMinMs);
    return { retryMinMs, retryMaxMs: Math.max(retryMinMs, ms(data["retryMaxMs"], DEFAULT_RANGE.retryMaxMs)) };
}
function inRangeMs({ retryMinMs, retryMaxMs }, random) {
    return retryMinMs + random * (retryMaxMs - retryMinMs);
}
const NEARLY_OVER_MS = 5000;
const ASK_AGAIN_MS = 10_000;
class Tokens {
    effects;
    hasProvider = false;
    #token = null;
    #expiresAt = null;
    #skewMs = 0;
    #wasRejected = false;
    #ask = 0;
    #isAsking = false;
    constructor(effects) {
        this.effects = effects;
    }
    begin(hasProvider) {
        this.hasProvider = hasProvider;
        this.forget();
    }
    forget() {
        this.#token = this.#expiresAt = null;
        this.#wasRejected = this.#isAsking = false;
        this.#ask += 1;
    }
    usable(now) {
        if (this.#wasRejected)
            return null;
        const endsAt = this.#expiresAt ?? Infinity;
        return this.hasProvider && now + this.#skewMs >= endsAt - NEARLY_OVER_MS ? null : this.#token;
    }
    ask(reason) {
        this.#isAsking = true;
        this.#ask += 1;
        this.effects.push({ do: "ask token", ask: this.#ask, reason: this.#wasRejected ? "rejected" : reason });
    }
    isAnswer(ask) {
        if (!this.#isAsking || ask !== this.#ask)
            return false;
        this.#isAsking = false;
        return true;
    }
    stopAsking() {
        this.#isAsking = false;
    }
    use(token) {
        this.#token = token;
        this.#expiresAt = null;
        this.#wasRejected = false;
    }
    accepted(expiresAt) {
        if (typeof expiresAt === "number")
            this.#expiresAt = expiresAt;
    }
    clock(serverNow, now) {
        if (typeof serverNow === "number")
            this.#skewMs = serverNow - now;
    }
    rejected() {
        this.#wasRejected = true;
    }
}
const STEADY_MS = 10_000;
const MIGRATION_MS = 30_000;
const LOST = 1006;
const RESUMED_ELSEWHERE = 4009;
const NORMAL = 1000;
class Connection {
    settings;
    ports;
    state = "disconnected";
    userId = null;
    link = null;
    tokens;
    #next = null;
    #session = null;
    #attempt = 0;
    #range = null;
    #isWaiting = false;
    #linkCount = 0;
    #heartbeatMs = HEARTBEAT_MS;
    #refreshId = null;
    #refreshToken = "";
    #isResumeAdrift = false;
    constructor(settings, ports) {
        this.settings = settings;
        this.ports = ports;
        this.tokens = new Tokens(ports.effects);
    }
    connect(userId, hasProvider, now) {
        if (this.userId !== userId)
            this.#session = null;
        this.userId = userId;
        this.tokens.begin(hasProvider);
        this.#attempt = 0;
        this.#begin("connecting", now);
    }
    disconnect(isForgotten) {
        this.#closeAll();
        this.#end("disconnected");
        this.tokens.forget();
        if (isForgotten)
            this.#session = this.userId = null;
    }
    retryNow(now) {
        if (this.#isWaiting)
            this.#begin("reconnecting", now);
    }
    #begin(state, now) {
        this.#isWaiting = false;
        this.ports.effects.stop("retry");
        this.#setState(state);
        this.ports.effects.start("progress", this.settings.progressMs);
        if (this.tokens.usable(now) === null)
            this.tokens.ask("connect");
        else
            this.#open();
    }
    #open() {
        this.#range = null;
        this.link = this.#newLink(this.settings.url, null);
    }
    #newLink(url, migrationToken) {
        const link = new Link((this.#linkCount += 1), migrationToken, this.ports.effects);
        this.ports.effects.push({ do: "open", link: link.id, url });
        return link;
    }
    tokenGiven(ask, token, now) {
        if (!this.tokens.isAnswer(ask))
            return;
        if (this.link === null) {
            if (token === null)
                return this.#stop(4001, "No token", true);
            this.tokens.use(token);
            this.#open();
        }
        else if (token !== null) {
            if (!this.link.isReady)
                return this.tokens.use(token);
            this.#refreshId = this.ports.newId();
            this.link.send(this.#refreshId, "refresh_token", { token }, now);
            this.#refreshToken = token;
        }
    }
    tokenFailed(ask, error) {
        if (!this.tokens.isAnswer(ask))
            return;
        this.ports.effects.tell("error", error);
        if (this.link)
            this.ports.effects.start("refresh", ASK_AGAIN_MS);
        else
            this.#lost(LOST, "");
    }
    find(id) {
        return [this.link, this.#next].find((link) => link?.id === id) ?? null;
    }
    opened(link, now) {
        const token = this.tokens.usable(now);
        if (token === null)
            return this.#cut(link);
        link.signIn(this.ports.newId(), token, now);
    }
    established(link, data, now) {
        if (data["userId"] !== this.userId) {
            this.ports.effects.tell("error", localError("wrong_user"));
            if (link === this.#next)
                return this.#cut(link);
            return this.#stop(4002, "The token is of another user", true);
        }
        this.tokens.accepted(data["expiresAt"]);
        this.tokens.clock(data["timestamp"], now);
        if (typeof data["heartbeatMs"] === "number" && data["heartbeatMs"] > 0)
            this.#heartbeatMs = data["heartbeatMs"];
        const { sessionId, resumeToken } = data;
        if (typeof sessionId === "string" && typeof resumeToken === "string")
            link.session = { sessionId, resumeToken };
        if (this.#session)
            link.resume(this.ports.newId(), { ...this.#session, rooms: this.ports.resumable() }, now);
        else
            this.#ready(link, link.session, null, now);
    }
    answered(link, requestId, error, result, now) {
        if (requestId === link.resumeId && link.phase === "resuming") {
            if (error)
                this.#ready(link, link.session, null, now);
            else
                this.#ready(link, this.#renewed(result), result, now);
        }
        else if (requestId !== null && requestId === this.#refreshId) {
            this.#refreshId = null;
            if (error)
                this.ports.effects.start("refresh", ASK_AGAIN_MS);
            else
                this.tokenAccepted(this.#refreshToken, result);
        }
        else {
            return !link.isReady;
        }
        return true;
    }
    #renewed(result) {
        const resumeToken = result["resumeToken"];
        return this.#session && typeof resumeToken === "string" ? { ...this.#session, resumeToken } : this.#session;
    }
    tokenAccepted(token, result) {
        this.tokens.use(token);
        this.tokens.accepted(isObject(result) ? result["expiresAt"] : null);
        this.ports.effects.stop("refresh");
    }
    #ready(link, session, resumed, now) {
        if (link === this.#next)
            this.#switch(link);
        link.phase = "ready";
        this.#session = session;
        this.ports.effects.stop("progress");
        this.ports.effects.start("steady", STEADY_MS);
        this.ports.effects.start("heartbeat", this.#everyMs);
        this.ports.effects.push({ do: "connected", error: null });
        this.#setState("connected");
        this.ports.ready(resumed, now);
    }
    get #everyMs() {
        return this.settings.heartbeatMs ?? this.#heartbeatMs;
    }
    heard(link) {
        link.heard();
        if (!link.isReady && link === this.link)
            this.ports.effects.start("progress", this.settings.progressMs);
    }
    serverClosing(link, data) {
        link.isEnding = true;
        this.#range = retryRange(data);
    }
    tokenExpiring() {
        if (this.tokens.hasProvider)
            this.tokens.ask("expiring");
    }
    fired(timer, now) {
        const link = this.link;
        if (timer === "retry")
            this.#begin("reconnecting", now);
        else if (timer === "steady")
            this.#steady();
        else if (timer === "heartbeat")
            link?.heartbeat(this.ports.newId(), this.#everyMs, this.settings.answerMs, now);
        else if (timer === "refresh")
            this.tokenExpiring();
        else if (timer === "migration" && this.#next)
            this.#cut(this.#next);
        else if (timer === "answer" && link)
            this.#cut(link);
        else if (timer === "progress") {
            if (link)
                this.#cut(link);
            else
                this.#lost(LOST, "");
        }
    }
    #steady() {
        this.#attempt = 0;
        this.#isResumeAdrift = false;
    }
    #cut(link) {
        this.#close(link);
        this.closed(link, LOST, "");
    }
    #close(link, code, reason) {
        this.ports.effects.push({ do: "close", link: link.id, ...(code === undefined ? {} : { code, reason: reason ?? "" }) });
    }
    migrate(data) {
        const { newServerUrl: url, migrationToken } = data;
        if (this.#next || typeof url !== "string" || typeof migrationToken !== "string")
            return;
        const isSafe = url.startsWith("wss://") || (url.startsWith("ws://") && !this.settings.url.startsWith("wss://"));
        if (!isSafe)
            return this.ports.effects.tell("error", localError("invalid_format"));
        this.#next = this.#newLink(url, migrationToken);
        this.ports.effects.start("migration", MIGRATION_MS);
    }
    #switch(link) {
        this.ports.effects.stop("migration");
        this.#next = null;
        if (this.link) {
            this.#close(this.link, NORMAL, "Client migrated");
            this.#linkEnds();
        }
        this.link = link;
    }
    closed(link, code, reason) {
        if (code === RESUMED_ELSEWHERE && this.#isResumeAdrift) {
            this.#isResumeAdrift = false;
            code = LOST;
        }
        if (link.phase === "resuming")
            this.#isResumeAdrift = true;
        if (link === this.#next) {
            this.#next = null;
            this.ports.effects.stop("migration");
            if (!this.link)
                this.#lost(code, reason);
        }
        else if (this.#next) {
            this.#linkEnds();
            this.#setState("reconnecting");
        }
        else {
            this.#lost(code, reason);
        }
    }
    #linkEnds() {
        this.ports.effects.stop("progress", "steady", "heartbeat", "answer", "refresh");
        this.link = null;
        this.#refreshId = null;
        this.tokens.stopAsking();
        this.ports.lost();
    }
    #lost(code, reason) {
        this.#linkEnds();
        const after = afterClose(code);
        if (after === "new token")
            this.tokens.rejected();
        if (after === "stop")
            return this.#stop(code, reason, false);
        if (after === "new token" && !this.tokens.hasProvider)
            return this.#stop(code, reason, true);
        const max = this.settings.maxReconnectAttempts;
        if (max !== null && this.#attempt >= max) {
            const attempts = this.#attempt;
            this.#stop(code, reason, false);
            return this.ports.effects.tell("max_reconnect_attempts", { attempts });
        }
        this.#attempt += 1;
        const random = this.ports.random();
        const isRange = after === "range" || this.#range !== null;
        this.#waitFor(isRange ? inRangeMs(this.#range ?? DEFAULT_RANGE, random) : backOffMs(this.#attempt, random));
    }
    #waitFor(retryInMs) {
        this.#isWaiting = true;
        this.ports.effects.start("retry", retryInMs);
        this.#setState("reconnecting", retryInMs);
    }
    #stop(code, reason, newTokenNeeded) {
        this.#closeAll();
        this.#end("stopped");
        this.ports.effects.tell("stopped", { code, reason, newTokenNeeded });
    }
    #closeAll() {
        for (const link of [this.link, this.#next])
            if (link)
                this.#close(link, NORMAL, "Client disconnecting");
    }
    #end(why) {
        this.ports.effects.stop("retry", "migration");
        this.#next = null;
        this.#isWaiting = false;
        this.#range = null;
        this.#linkEnds();
        this.#attempt = 0;
        this.ports.effects.push({ do: "connected", error: localError(why) });
        this.#setState("disconnected");
    }
    #setState(state, retryInMs) {
        if (state === this.state && state !== "reconnecting")
            return;
        this.state = state;
        this.ports.effects.tell("state", { state, attempt: this.#attempt, ...(retryInMs === undefined ? {} : { retryInMs }) });
    }
}
class Effects {
    #list = [];
    push(effect) {
        this.#list.push(effect);
    }
    start(timer, ms) {
        this.push({ do: "start", timer, ms });
    }
    stop(...timers) {
        for (const timer of timers)
            this.push({ do: "stop", timer });
    }
    dispatch(type, data) {
        this.push({ do: "dispatch", type, data });
    }
    tell(type, data) {
        this.push({ do: "tell", type, data });
    }
    take() {
        const list = this.#list;
        this.#list = [];
        return list;
    }
}
const LIFE_MS = 300_000;
const REPEAT_MS = 270_000;
const RETRY_MS = 2000;
class Outbox {
    max;
    #entries = new Map();
    constructor(max) {
        this.max = max;
    }
    get size() {
        return this.#entries.size;
    }
    get isFull() {
        return this.size >= this.max;
    }
    get oldest() {
        for (const entry of this.#entries.values())
            return entry.since;
        return null;
    }
    has(id) {
        return this.#entries.has(id);
    }
    list() {
        return [...this.#entries.values()].map(({ id, type, data, since, order }) => ({ id, type, data, since, order }));
    }
    add(stored, isRestored = false) {
        const { roomId } = JSON.parse(stored.data);
        const lane = typeof roomId === "string" ? roomId : "";
        this.#entries.set(stored.id, { ...stored, lane, isOnWire: false, wasOnWire: isRestored, isRestored, retryAt: 0 });
    }
    restore(found) {
        const own = [...this.#entries.values()];
        const added = found.filter(({ id }) => !this.has(id));
        added.sort((one, other) => one.since - other.since || one.order - other.order);
        this.#entries.clear();
        for (const stored of added)
            this.add(stored, true);
        for (const entry of own)
            this.#entries.set(entry.id, entry);
        return added;
    }
    remove(id) {
        const entry = this.#entries.get(id);
        this.#entries.delete(id);
        return entry;
    }
    expired(now) {
        return [...this.#entries.values()].filter((entry) => now - entry.since >= LIFE_MS);
    }
    due(now, isLaneOpen) {
        const send = [];
        const lanes = new Set();
        let lookAt = null;
        for (const entry of this.#entries.values()) {
            if (lanes.has(entry.lane))
                continue;
            lanes.add(entry.lane);
            if (entry.isOnWire || !isLaneOpen(entry.lane, entry.isRestored))
                continue;
            if (entry.retryAt > now) {
                lookAt = Math.min(lookAt ?? entry.retryAt, entry.retryAt);
            }
            else if (!entry.wasOnWire || now - entry.since < REPEAT_MS) {
                entry.isOnWire = entry.wasOnWire = true;
                send.push(entry);
            }
        }
        return { send, lookAt };
    }
    retryLater(id, at) {
        const entry = this.#entries.get(id);
        if (!entry)
            return;
        entry.isOnWire = false;
        entry.retryAt = at;
    }
    linkLost() {
        for (const entry of this.#entries.values())
            entry.isOnWire = false;
    }
}
const RESUME_ROOMS_MAX = 128;
function positionOf(data) {
    const { epoch, offset } = data;
    return typeof epoch === "string" && typeof offset === "number" ? { epoch, offset } : null;
}
function compare(at, event) {
    if (event.epoch !== at.epoch)
        return "gap";
    if (event.offset <= at.offset)
        return "double";
    return event.offset === at.offset + 1 ? "next" : "gap";
}
class Rooms {
    #rooms = new Map();
    get(roomId) {
        return typeof roomId === "string" ? this.#rooms.get(roomId) : undefined;
    }
    all() {
        return this.#rooms.values();
    }
    want(roomId, data, waiter) {
        const { recover, roomId: _, ...rest } = data;
        let room = this.#rooms.get(roomId);
        if (!room) {
            room = {
                id: roomId,
                data: rest,
                position: null,
                phase: "apart",
                joinId: null,
                waiters: [],
                retryAt: 0,
                isLagging: false,
                isReported: true,
            };
            this.#rooms.set(roomId, room);
        }
        room.data = rest;
        if (isObject(recover))
            room.position = positionOf(recover);
        room.waiters.push(waiter);
        return room;
    }
    forget(roomId) {
        const room = this.#rooms.get(roomId);
        this.#rooms.delete(roomId);
        return room;
    }
    clear() {
        this.#rooms.clear();
    }
    linkLost() {
        for (const room of this.#rooms.values()) {
            room.phase = "apart";
            room.joinId = null;
            room.retryAt = 0;
            room.isLagging = false;
            if (room.position)
                room.isReported = false;
        }
    }
    resumable() {
        const read = [...this.#rooms.values()].filter((room) => room.position !== null).slice(0, RESUME_ROOMS_MAX);
        return Object.fromEntries(read.map((room) => [room.id, room.position]));
    }
    isOpen(roomId, isRestored) {
        const room = this.#rooms.get(roomId);
        return room ? room.phase === "joined" : !isRestored || roomId === "";
    }
    isAnyJoining() {
        return [...this.#rooms.values()].some((room) => room.joinId !== null);
    }
    areAllHere() {
        return [...this.#rooms.values()].every((room) => room.phase === "joined" && room.position && !room.isLagging);
    }
    due(now) {
        const join = [];
        let lookAt = null;
        for (const room of this.#rooms.values()) {
            const isWaiting = room.phase === "apart" || room.isLagging || room.waiters.length > 0;
            if (!isWaiting || room.joinId !== null)
                continue;
            if (room.retryAt > now)
                lookAt = Math.min(lookAt ?? room.retryAt, room.retryAt);
            else
                join.push(room);
        }
        return { join, lookAt };
    }
}
const ONE_BY_ONE = 2;
const SNAPSHOTS = 4;
class Recovery {
    ports;
    rooms = new Rooms();
    #hasAsked = false;
    #failures = 0;
    #joins = new Map();
    constructor(ports) {
        this.ports = ports;
    }
    want(roomId, data, waiter, now) {
        this.rooms.want(roomId, data, waiter);
        this.joinDue(now);
    }
    joinDue(now) {
        const link = this.ports.readyLink();
        if (!link)
            return;
        let { join, lookAt } = this.rooms.due(now);
        if (this.#failures >= ONE_BY_ONE)
            join = this.#joins.size > 0 || this.rooms.isAnyJoining() ? [] : join.slice(0, 1);
        for (const room of join) {
            this.#hasAsked = true;
            room.joinId = this.ports.newId();
            if (room.phase === "apart")
                room.phase = "joining";
            this.#joins.set(room.joinId, room.id);
            const recover = room.position && this.#failures < SNAPSHOTS ? { recover: room.position } : {};
            link.send(room.joinId, "join_room", { ...room.data, roomId: room.id, ...recover }, now);
        }
        if (lookAt !== null)
            this.ports.effects.start("rejoin", lookAt - now);
    }
    answered(requestId, error, result, now) {
        const roomId = this.#joins.get(requestId);
        if (roomId === undefined)
            return false;
        this.#joins.delete(requestId);
        const room = this.rooms.get(roomId);
        if (room?.joinId !== requestId)
            return true;
        if (error) {
            this.#refused(room, error, now);
        }
        else {
            room.phase = "joined";
            this.#settleWaiters(room, null, result);
        }
        return true;
    }
    #refused(room, error, now) {
        room.joinId = null;
        if (room.phase === "joining")
            room.phase = "apart";
        if (error.retryable) {
            room.retryAt = now + (error.retryAfterMs ?? RETRY_MS);
            return this.joinDue(now);
        }
        this.rooms.forget(room.id);
        const isNews = room.position !== null || room.waiters.length === 0;
        this.#settleWaiters(room, error, undefined);
        if (isNews)
            this.ports.effects.tell("room_lost", { roomId: room.id, error });
    }
    #settleWaiters(room, error, result) {
        for (const id of room.waiters.splice(0))
            this.ports.settle(id, error, result);
    }
    leave(roomId) {
        const room = this.rooms.forget(roomId);
        if (room)
            this.#settleWaiters(room, new ThrongError("not_in_room", "You are not in this room"), undefined);
    }
    abandon(error, isForgotten) {
        for (const room of [...this.rooms.all()]) {
            this.#settleWaiters(room, error, undefined);
            if (!room.position)
                this.rooms.forget(room.id);
        }
        if (isForgotten)
            this.rooms.clear();
    }
    expire(waiter) {
        for (const room of [...this.rooms.all()]) {
            if (!room.waiters.includes(waiter))
                continue;
            room.waiters = room.waiters.filter((id) => id !== waiter);
            if (!room.position && room.waiters.length === 0)
                this.rooms.forget(room.id);
        }
    }
    linkLost() {
        if (this.#hasAsked)
            this.#failures = this.rooms.areAllHere() ? 0 : this.#failures + 1;
        this.#hasAsked = false;
        this.#joins.clear();
        this.rooms.linkLost();
    }
    resumable() {
        this.#hasAsked = true;
        return this.#failures < ONE_BY_ONE ? this.rooms.resumable() : {};
    }
    resumed(result, now) {
        const list = isObject(result) && Array.isArray(result["rooms"]) ? result["rooms"] : [];
        for (const answer of list)
            if (isObject(answer))
                this.#roomResumed(answer, now);
        this.joinDue(now);
    }
    #roomResumed(answer, now) {
        const position = positionOf(answer);
        const room = this.rooms.get(answer["roomId"]);
        if (!room) {
            if (position)
                this.ports.readyLink()?.send(this.ports.newId(), "leave_room", { roomId: answer["roomId"] }, now);
            return;
        }
        if (!position)
            return;
        if (answer["recovered"] === true) {
            room.phase = "joined";
            this.#report(room, true);
            this.#replay(room, answer["events"]);
            room.position = position;
        }
        else {
            this.#report(room, false);
            room.position = null;
        }
    }
    #report(room, recovered) {
        room.isReported = true;
        this.ports.effects.tell("recovered", { roomId: room.id, recovered });
    }
    #replay(room, events) {
        if (!Array.isArray(events))
            return;
        for (const event of events) {
            if (!isObject(event) || typeof event["type"] !== "string" || !isObject(event["data"]))
                continue;
            const position = positionOf(event["data"]);
            if (!position || (room.position && compare(room.position, position) === "double"))
                continue;
            room.position = position;
            this.#deliver(event["type"], event["data"]);
        }
    }
    roomState(data, now) {
        const room = this.rooms.get(data["roomId"]);
        if (!room)
            return this.ports.effects.dispatch("room_state", data);
        room.joinId = null;
        room.phase = "joined";
        room.isLagging = false;
        const wasRecovered = data["recovered"] === true;
        if (!room.isReported || typeof data["recovered"] === "boolean")
            this.#report(room, wasRecovered);
        const { events, ...state } = data;
        this.ports.effects.dispatch("room_state", state);
        if (wasRecovered)
            this.#replay(room, events);
        else if (Array.isArray(data["recentMessages"])) {
            for (const message of data["recentMessages"])
                if (isObject(message))
                    this.ports.sawMessage(message);
        }
        room.position = positionOf(data);
        this.joinDue(now);
    }
    roomClosed(data) {
        if (typeof data["roomId"] === "string")
            this.leave(data["roomId"]);
        this.ports.effects.dispatch("room_closed", data);
    }
    event(type, data, now) {
        const room = this.rooms.get(data["roomId"]);
        const position = positionOf(data);
        if (!room || !position)
            return this.#deliver(type, data);
        if (room.isLagging || !room.position)
            return;
        switch (compare(room.position, position)) {
            case "next":
                room.position = position;
                return this.#deliver(type, data);
            case "gap":
                room.isLagging = true;
                room.isReported = false;
                return this.joinDue(now);
            case "double":
        }
    }
    #deliver(type, data) {
        if (type === "chat_message")
            this.ports.sawMessage(data);
        this.ports.effects.dispatch(type, data);
    }
}
class Traffic {
    settings;
    ports;
    recovery;
    #outbox;
    #pending = new Map();
    #order = 0;
    #isExpiryArmed = false;
    constructor(settings, ports) {
        this.settings = settings;
        this.ports = ports;
        this.#outbox = new Outbox(settings.queueMax);
        this.recovery = new Recovery({
            effects: ports.effects,
            newId: () => ports.newId(),
            readyLink: () => ports.readyLink(),
            sawMessage: (data) => this.#sawMessage(data),
            settle: (id, error, result) => this.#settle(id, error, result),
        });
    }
    waiting() {
        return this.#outbox.list();
    }
    isUsed(id) {
        return this.#outbox.has(id) || this.#pending.has(id);
    }
    command(id, type, data, now) {
        const json = toJson(data);
        const refusal = this.#refusal(id, type, json, now);
        if (refusal || json === null)
            return this.#settle(id, refusal, undefined);
        const kind = kindOf(type);
        if (kind === "durable")
            return this.#keep({ id, type, data: json, since: now, order: (this.#order += 1) }, now);
        const fields = JSON.parse(json);
        const roomId = typeof fields["roomId"] === "string" ? fields["roomId"] : "";
        if (kind === "join") {
            this.#expect(id, "join", now);
            return this.recovery.want(roomId, fields, id, now);
        }
        const link = this.ports.readyLink();
        if (kind === "leave") {
            this.recovery.leave(roomId);
            if (!link && fields["permanent"] !== true)
                return this.#settle(id, null, {});
        }
        if (!link)
            return this.#settle(id, localError("not_connected"), undefined);
        link.sendJson(id, type, json, now);
        if (kind === "live")
            return this.#settle(id, null, undefined);
        const token = type === "refresh_token" && typeof fields["token"] === "string" ? fields["token"] : null;
        this.#expect(id, kind === "leave" && fields["permanent"] !== true ? "leave" : "request", now, token);
    }
    #refusal(id, type, json, now) {
        if (json === null || kindOf(type) === "own")
            return localError("invalid_argument");
        if (isLongerThan(encode(id, type, json, now), this.settings.messageBytesMax))
            return localError("message_too_long");
        return kindOf(type) === "durable" && this.#outbox.isFull ? localError("queue_full") : null;
    }
    #expect(id, kind, now, token = null) {
        this.#pending.set(id, { since: now, kind, token });
        this.#armExpiry(now);
    }
    #keep(stored, now) {
        this.#outbox.add(stored);
        this.#store(stored);
        this.#armExpiry(now);
        this.flush(now);
    }
    #store(entry) {
        const userId = this.ports.userId();
        if (userId !== null)
            this.ports.effects.push({ do: "store", userId, entry });
    }
    restore(found, now) {
        for (const stored of this.#outbox.list())
            this.#store(stored);
        this.#outbox.restore(found);
        this.#armExpiry(now);
    }
    flush(now) {
        const link = this.ports.readyLink();
        if (!link || link.isEnding)
            return;
        const { send, lookAt } = this.#outbox.due(now, (lane, isRestored) => this.recovery.rooms.isOpen(lane, isRestored));
        for (const { id, type, data } of send)
            link.sendJson(id, type, data, now);
        if (lookAt !== null)
            this.ports.effects.start("resend", lookAt - now);
    }
    answered(requestId, error, result, now) {
        const id = typeof requestId === "string" ? requestId : "";
        if (this.recovery.answered(id, error, result, now)) {
            return this.flush(now);
        }
        if (this.#outbox.has(id)) {
            if (error?.retryable)
                this.#delay(id, error, now);
            else
                this.#settle(id, error, result);
            return this.flush(now);
        }
        const pending = this.#pending.get(id);
        if (!pending) {
            if (error)
                this.ports.effects.tell("error", error);
            return;
        }
        if (pending.token !== null && !error)
            this.ports.tokenAccepted(pending.token, result);
        this.#settle(id, error, result);
    }
    #delay(id, error, now) {
        const retryInMs = error.retryAfterMs ?? RETRY_MS;
        this.#outbox.retryLater(id, now + retryInMs);
        this.ports.effects.tell("delayed", { id, error, retryInMs });
    }
    #sawMessage(data) {
        const { clientId, userId, id: messageId, offset, epoch, timestamp } = data;
        if (userId !== this.ports.userId() || typeof clientId !== "string" || !this.#outbox.has(clientId))
            return;
        this.#settle(clientId, null, { messageId, offset, epoch, timestamp, duplicate: true });
    }
    #settle(id, error, result) {
        this.#pending.delete(id);
        const entry = this.#outbox.remove(id);
        if (entry)
            this.#tellSettled(entry, error, result);
        this.ports.effects.push({ do: "settle", id, error, result });
    }
    #tellSettled({ id, type, data }, error, result) {
        const userId = this.ports.userId();
        if (userId !== null)
            this.ports.effects.push({ do: "unstore", userId, id });
        this.ports.effects.tell("settled", { id, type, data: JSON.parse(data), error, result });
    }
    #armExpiry(now) {
        if (this.#isExpiryArmed)
            return;
        let oldest = this.#outbox.oldest;
        for (const { since } of this.#pending.values()) {
            oldest = Math.min(oldest ?? since, since);
            break;
        }
        if (oldest === null)
            return;
        this.#isExpiryArmed = true;
        this.ports.effects.start("expiry", Math.max(0, oldest + LIFE_MS - now));
    }
    expire(now) {
        this.#isExpiryArmed = false;
        for (const { id } of this.#outbox.expired(now))
            this.#settle(id, localError("timeout"), undefined);
        for (const [id, { since, kind }] of [...this.#pending]) {
            if (now - since < LIFE_MS)
                break;
            if (kind === "join")
                this.recovery.expire(id);
            this.#settle(id, localError("timeout"), undefined);
        }
        this.#armExpiry(now);
        this.flush(now);
    }
    linkLost() {
        this.ports.effects.stop("resend", "rejoin");
        this.recovery.linkLost();
        this.#outbox.linkLost();
        for (const [id, { kind }] of [...this.#pending]) {
            if (kind === "request")
                this.#settle(id, localError("connection_lost"), undefined);
            else if (kind === "leave")
                this.#settle(id, null, {});
        }
    }
    abandon(isForgotten) {
        this.#isExpiryArmed = false;
        this.ports.effects.stop("expiry", "resend", "rejoin");
        this.recovery.abandon(localError("disconnected"), isForgotten);
        for (const { id } of this.#outbox.list())
            this.#settle(id, localError("disconnected"), undefined);
        for (const id of [...this.#pending.keys()])
            this.#settle(id, localError("disconnected"), undefined);
    }
}
function toJson(data) {
    try {
        const json = JSON.stringify(data ?? {});
        return json !== undefined && isObject(JSON.parse(json)) ? json : null;
    }
    catch {
        return null;
    }
}
class Machine {
    effects = new Effects();
    connection;
    traffic;
    constructor(settings, chance) {
        const { effects } = this;
        this.connection = new Connection(settings, {
            effects,
            newId: () => chance.newId(),
            random: () => chance.random(),
            resumable: () => this.traffic.recovery.resumable(),
            ready: (resumed, now) => this.#ready(resumed, now),
            lost: () => this.traffic.linkLost(),
        });
        this.traffic = new Traffic(settings, {
            effects,
            newId: () => chance.newId(),
            readyLink: () => (this.connection.link?.isReady ? this.connection.link : null),
            userId: () => this.connection.userId,
            tokenAccepted: (token, result) => this.connection.tokenAccepted(token, result),
        });
    }
    connect(userId, hasProvider, stored, now) {
        const { userId: previous } = this.connection;
        if (previous !== null && previous !== userId)
            this.traffic.abandon(true);
        this.connection.connect(userId, hasProvider, now);
        this.traffic.restore(stored, now);
    }
    disconnect(isForgotten) {
        this.traffic.abandon(isForgotten);
        this.connection.disconnect(isForgotten);
    }
    command(id, type, data, now) {
        this.traffic.command(id, type, data, now);
    }
    tokenGiven(ask, token, now) {
        this.connection.tokenGiven(ask, token, now);
    }
    tokenFailed(ask, error) {
        this.connection.tokenFailed(ask, error);
    }
    opened(linkId, now) {
        const link = this.connection.find(linkId);
        if (link)
            this.connection.opened(link, now);
    }
    closed(linkId, code, reason) {
        const link = this.connection.find(linkId);
        if (link)
            this.connection.closed(link, code, reason);
    }
    received(linkId, text, now) {
        const link = this.connection.find(linkId);
        if (!link)
            return;
        this.connection.heard(link);
        const frame = decode(text);
        if (!frame)
            return this.effects.tell("error", localError("invalid_format"));
        const { type, data } = frame;
        if (type === "ack") {
            return this.#answered(link, data["requestId"], null, isObject(data["result"]) ? data["result"] : {}, now);
        }
        if (type === "error")
            return this.#answered(link, data["requestId"], serverError(data), {}, now);
        if (type === "connection_established") {
            this.effects.dispatch(type, data);
            return this.connection.established(link, data, now);
        }
        if (link !== this.connection.link)
            return;
        switch (type) {
            case "room_state":
                return this.traffic.recovery.roomState(data, now);
            case "room_closed":
                return this.traffic.recovery.roomClosed(data);
            case "server_closing":
                this.connection.serverClosing(link, data);
                break;
            case "token_expiring":
                this.connection.tokenExpiring();
                break;
            case "migrate":
                this.connection.migrate(data);
                break;
            default:
                return this.traffic.recovery.event(type, data, now);
        }
        this.effects.dispatch(type, data);
    }
    fired(timer, now) {
        if (timer === "expiry")
            this.traffic.expire(now);
        else if (timer === "resend")
            this.traffic.flush(now);
        else if (timer === "rejoin")
            this.traffic.recovery.joinDue(now);
        else
            this.connection.fired(timer, now);
    }
    #answered(link, id, error, result, now) {
        if (!this.connection.answered(link, id, error, result, now))
            this.traffic.answered(id, error, result, now);
    }
    #ready(resumed, now) {
        this.traffic.recovery.resumed(resumed, now);
        this.traffic.flush(now);
    }
}
const CONNECT_TIMEOUT_MS = 15_000;
const QUEUE_MAX = 1000;
function settingsOf(options) {
    if (!/^wss?:\/\/./.test(options.url))
        throw new TypeError(`not a ws:// or wss:// address: ${options.url}`);
    return {
        url: options.url,
        maxReconnectAttempts: options.maxReconnectAttempts ?? null,
        queueMax: options.queueMax ?? QUEUE_MAX,
        messageBytesMax: options.maxMessageBytes ?? MESSAGE_BYTES_MAX,
        heartbeatMs: options.heartbeatMs ?? null,
        answerMs: options.heartbeatTimeoutMs ?? ANSWER_MS,
        progressMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    };
}
function socketConstructor(options) {
    const constructor = options.WebSocket ?? globals.WebSocket;
    if (!constructor)
        throw new TypeError("no WebSocket here: give one as option `WebSocket`, such as that of npm `ws`");
    return constructor;
}
const systemClock = {
    now: () => Date.now(),
    setTimeout: (run, ms) => globals.setTimeout(run, ms),
    clearTimeout: (timer) => globals.clearTimeout(timer),
};
function idSource() {
    const bytes = globals.crypto?.getRandomValues(new Uint8Array(10)) ?? Array.from({ length: 10 }, () => Math.random() * 256);
    const prefix = Array.from(bytes, (byte) => (byte | 0).toString(16).padStart(2, "0")).join("");
    let count = 0;
    return () => `${prefix}-${(count += 1)}`;
}
class CommandStore {
    storage;
    prefix;
    failed;
    constructor(storage, prefix, failed) {
        this.storage = storage;
        this.prefix = prefix;
        this.failed = failed;
    }
    load(userId) {
        return this.#try(() => {
            const { storage } = this;
            if (!storage)
                return [];
            const begin = this.#key(userId, "");
            const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at) ?? "");
            return keys.filter((key) => key.startsWith(begin)).flatMap((key) => read(storage.getItem(key)));
        }, []);
    }
    store(userId, entry) {
        this.#try(() => this.storage?.setItem(this.#key(userId, entry.id), JSON.stringify(entry)), undefined);
    }
    remove(userId, id) {
        this.#try(() => this.storage?.removeItem(this.#key(userId, id)), undefined);
    }
    #key(userId, id) {
        return `${this.prefix}:${encodeURIComponent(userId)}:${id}`;
    }
    #try(use, otherwise) {
        try {
            return use();
        }
        catch (error) {
            this.failed(error);
            return otherwise;
        }
    }
}
function read(text) {
    try {
        const value = JSON.parse(text ?? "");
        if (!isObject(value))
            return [];
        const { id, type, data, since, order } = value;
        const isCommand = typeof id === "string" && typeof type === "string" && typeof data === "string" && typeof since === "number" &&
            typeof order === "number" && isObject(JSON.parse(data));
        return isCommand ? [{ id, type, data, since, order }] : [];
    }
    catch {
        return [];
    }
}
class ThrongClient {
    #machine;
    #handlers = new Handlers();
    #store;
    #clock;
    #newId = idSource();
    #WebSocket;
    #sockets = new Map();
    #timers = new Map();
    #answers = new Map();
    #connecting = null;
    #provider = () => null;
    #isRunning = false;
    #effects = [];
    constructor(options) {
        this.#WebSocket = socketConstructor(options);
        this.#clock = options.clock ?? systemClock;
        const chance = { random: options.random ?? Math.random, newId: this.#newId };
        this.#machine = new Machine(settingsOf(options), chance);
        this.#store = new CommandStore(options.storage ?? null, options.storagePrefix ?? "throng", (thrown) => this.#handlers.tell("error", localError("storage_failed", thrown)));
        const on = (type, handler) => handler && this.#handlers.on(type, handler);
        on("state", options.onStateChange);
        on("recovered", options.onRecovered);
        on("stopped", options.onStopped);
        on("max_reconnect_attempts", options.onMaxReconnectAttemptsReached);
        on("unknown", options.onUnknown);
        on("error", options.onError);
    }
    on(type, handler) {
        return this.#handlers.on(type, handler);
    }
    connect(userId, token) {
        if (this.getConnectionState() !== "disconnected")
            return this.#connecting?.promise ?? Promise.resolve();
        this.#provider = typeof token === "string" ? () => token : token;
        const connecting = (this.#connecting = promised());
        this.#machine.connect(userId, typeof token !== "string", this.#store.load(userId), this.#clock.now());
        this.#run();
        return connecting.promise;
    }
    disconnect({ forget = false } = {}) {
        this.#machine.disconnect(forget);
        this.#run();
    }
    sendMessage(type, data, options = {}) {
        const id = options.id ?? this.#newId();
        const answer = promised();
        if (this.#answers.has(id) || this.#machine.traffic.isUsed(id)) {
            answer.reject(localError("conflict"));
            return answer.promise;
        }
        this.#answers.set(id, answer);
        this.#machine.command(id, type, data, this.#clock.now());
        this.#run();
        return answer.promise;
    }
    newId() {
        return this.#newId();
    }
    getConnectionState() {
        return this.#machine.connection.state;
    }
    isConnected() {
        return this.getConnectionState() === "connected";
    }
    retryNow() {
        this.#machine.connection.retryNow(this.#clock.now());
        this.#run();
    }
    pending() {
        return this.#machine.traffic.waiting().map(({ id, type, data, since }) => ({ id, type, data: JSON.parse(data), since }));
    }
    #run() {
        this.#effects.push(...this.#machine.effects.take());
        if (this.#isRunning)
            return;
        this.#isRunning = true;
        try {
            for (let effect = this.#effects.shift(); effect; effect = this.#effects.shift()) {
                this.#do(effect);
                this.#effects.push(...this.#machine.effects.take());
            }
        }
        finally {
            this.#isRunning = false;
        }
    }
    #do(effect) {
        switch (effect.do) {
            case "open":
                return this.#open(effect.link, effect.url);
            case "send":
                return this.#sockets.get(effect.link)?.send(effect.text);
            case "close":
                return this.#close(effect.link, effect.code, effect.reason);
            case "start":
                return this.#start(effect.timer, effect.ms);
            case "stop":
                return this.#stop(effect.timer);
            case "ask token":
                return this.#askToken(effect.ask, effect.reason);
            case "connected":
                return this.#connected(effect.error);
            case "settle":
                return this.#settle(effect.id, effect.error, effect.result);
            case "store":
                return this.#store.store(effect.userId, effect.entry);
            case "unstore":
                return this.#store.remove(effect.userId, effect.id);
            case "tell":
                return this.#handlers.tell(effect.type, effect.data);
            case "dispatch":
                return this.#handlers.dispatch(effect.type, effect.data);
        }
    }
    #open(link, url) {
        const now = () => this.#clock.now();
        let socket;
        try {
            socket = new this.#WebSocket(url, ["throng.v1"]);
        }
        catch {
            return this.#machine.closed(link, 1006, "");
        }
        this.#sockets.set(link, socket);
        const is = () => this.#sockets.get(link) === socket;
        const told = (tell) => {
            if (!is())
                return;
            tell();
            this.#run();
        };
        socket.onopen = () => told(() => this.#machine.opened(link, now()));
        socket.onmessage = (event) => told(() => this.#machine.received(link, event.data, now()));
        socket.onclose = (event) => told(() => {
            this.#sockets.delete(link);
            this.#machine.closed(link, event.code, event.reason);
        });
        socket.onerror = () => { };
    }
    #close(link, code, reason) {
        const socket = this.#sockets.get(link);
        if (!this.#sockets.delete(link) || !socket)
            return;
        try {
            if (code !== undefined)
                socket.close(code, reason);
            else if (socket.terminate)
                socket.terminate();
            else
                socket.close();
        }
        catch {
        }
    }
    #start(timer, ms) {
        this.#stop(timer);
        const fire = () => {
            this.#timers.delete(timer);
            this.#machine.fired(timer, this.#clock.now());
            this.#run();
        };
        this.#timers.set(timer, this.#clock.setTimeout(fire, ms));
    }
    #stop(timer) {
        if (!this.#timers.has(timer))
            return;
        this.#clock.clearTimeout(this.#timers.get(timer));
        this.#timers.delete(timer);
    }
    #askToken(ask, reason) {
        const asked = Promise.resolve(reason).then(this.#provider);
        asked.then((token) => this.#machine.tokenGiven(ask, typeof token === "string" ? token : null, this.#clock.now()), (thrown) => this.#machine.tokenFailed(ask, localError("token_failed", thrown))).then(() => this.#run());
    }
    #connected(error) {
        if (error)
            this.#connecting?.reject(error);
        else
            this.#connecting?.resolve();
        if (error)
            this.#connecting = null;
    }
    #settle(id, error, result) {
        const answer = this.#answers.get(id);
        this.#answers.delete(id);
        if (error)
            answer?.reject(error);
        else
            answer?.resolve(result);
    }
}
function promised() {
    let resolve;
    let reject;
    const promise = new Promise((kept, broken) => {
        resolve = kept;
        reject = broken;
    });
    promise.catch(() => { });
    return { promise, resolve, reject };
}
export { ThrongClient, ThrongError, afterClose, backOffMs };
