// Demo client of the native protocol: one room. Connection, queue and recovery are the client library's; what it tells
// becomes state here and is shown by view.js.
import { ThrongClient } from "/demo/throng-client.js";
import * as view from "/demo/view.js";
const { $, toast } = view;

// `#token=…&room=…&name=…`: a fragment never leaves the browser.
const settings = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const room = settings.room || "lobby";
const ownId = userOf(settings.token ?? "");
const scheme = location.protocol === "https:" ? "wss:" : "ws:";
// What was written without a connection outlives a reload of the page.
const client = new ThrongClient({ url: `${scheme}//${location.host}/ws`, storage: sessionStorage });
const outbox = new Map(); // client id → element: not yet acknowledged
const people = new Map(); // user id → status
const typing = new Map(); // user id → expiry timer

// The server alone judges the token; who it names is only to be shown. Empty: not readable, as the server will say.
function userOf(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
    return String(claims.userId ?? claims.sub ?? "");
  } catch {
    return "";
  }
}

// ---------------------------------------------------------------- what the client tells

const here = (handler) => (data) => data.roomId === room && handler(data);
const note = (text) => here((data) => view.showNote(data.offset, text(data)));

client.on("room_state", here(snapshot));
client.on("chat_message", here(message));
client.on("member_added", note((data) => `${data.userId} became a member`));
client.on("member_removed", note((data) => `${data.userId} is no longer a member`));
client.on("role_changed", note((data) => `${data.userId} is now ${data.role}`));
client.on("room_updated", note((data) => `${data.userId} changed the room`));
client.on("room_closed", here((data) => outside(`The room was closed: ${data.reason}`)));
client.on("room_lost", here(({ error }) => outside(error.message)));
client.on("user_joined", here((data) => {
  people.set(data.userId, "online");
  showPeople(people.size);
}));
client.on("user_left", here((data) => {
  people.delete(data.userId);
  setTyping(data.userId, false);
  showPeople(people.size);
}));
client.on("room_occupancy", here((data) => showPeople(data.online)));
client.on("typing_indicator", here((data) => setTyping(data.userId, data.isTyping)));
client.on("token_expiring", () => toast("This sign-in ends in a minute"));
client.on("error", (error) => toast(error.message, true));
client.on("state", showState);
client.on("recovered", here(({ recovered }) => {
  if (!recovered) return toast("Too much was missed: these are the newest messages");
  // Who came and went meanwhile is live, and not replayed.
  client.sendMessage("get_online_users", { roomId: room }).then(setPeople, () => {});
}));
client.on("delayed", ({ id, error }) => outbox.has(id) && view.mark(outbox.get(id), "pending", error.message));
client.on("settled", ({ id, error, result }) => settled(id, error, result));
client.on("stopped", ({ reason, newTokenNeeded }) => {
  view.showState("stopped", newTokenNeeded ? "Signed out" : "Disconnected");
  if (newTokenNeeded) signIn(reason || "The token was not accepted");
  else toast(reason || "The server ended the connection", true);
});

const STATES = { connecting: "Connecting", connected: "Connected", disconnected: "Not connected", reconnecting: "Reconnecting" };
let countdown = 0;
function showState({ state, retryInMs }) {
  clearInterval(countdown);
  if (retryInMs === undefined) return view.showState(state, STATES[state]);
  const at = Date.now() + retryInMs;
  const show = () => view.showState(state, `Reconnecting in ${Math.max(0, Math.ceil((at - Date.now()) / 1000))} s`);
  countdown = setInterval(show, 250);
  show();
}

function outside(reason) {
  view.showState("stopped", "Not in the room");
  toast(reason, true);
}

function snapshot(data) {
  if (!data.recovered) {
    view.clearMessages();
    data.recentMessages.forEach(message);
    $("older").hidden = !(data.recentMessages[0]?.offset > 1);
  }
  setPeople(data);
  view.showRoom(data.roomInfo.name || room, data.roomInfo.description || `Signed in as ${settings.name || ownId}`);
  view.showEmpty();
}

function message(data) {
  view.showMessage(data, data.userId === ownId);
}

function setPeople({ onlineUsers, onlineCount }) {
  people.clear();
  for (const user of onlineUsers) people.set(user.userId, user.status);
  showPeople(onlineCount);
}

function showPeople(count) {
  view.showPeople(people, count, ownId);
}

function setTyping(userId, isTyping) {
  clearTimeout(typing.get(userId));
  typing.delete(userId);
  // The server ends typing itself; the timer is for an end that got lost.
  if (isTyping) typing.set(userId, setTimeout(setTyping, 8000, userId, false));
  view.showTyping([...typing.keys()]);
}

// ---------------------------------------------------------------- what we say

// The client sends it now or when it can, and again until the server has answered: the server stores it once.
function post(text) {
  const id = client.newId();
  pending(id, text);
  client.sendMessage("chat_message", { roomId: room, message: text }, { id }).catch((error) => settled(id, error));
}

function pending(id, text) {
  outbox.set(id, view.showPending(ownId, text, client.isConnected() ? "Sending" : "Waiting for the connection"));
}

function settled(id, error, result) {
  const element = outbox.get(id);
  if (!outbox.delete(id)) return;
  if (error) view.mark(element, "failed", error.message);
  else view.confirm(element, result.offset, result.timestamp);
}

async function loadOlder() {
  try {
    const { messages, hasMore } = await client.sendMessage("get_history", { roomId: room, before: view.oldestOffset(), limit: 50 });
    view.above(() => messages.forEach(message));
    $("older").hidden = !hasMore;
  } catch (error) {
    toast(error.message, true);
  }
}

// ---------------------------------------------------------------- the page's own events

// Typing is told at most each 3 s while keys are pressed, and taken back when the field is emptied or rests.
const keys = { toldAt: 0, rest: 0 };
function stopTyping(isTold = true) {
  clearTimeout(keys.rest);
  if (keys.toldAt && isTold) client.sendMessage("typing_stop", { roomId: room });
  keys.toldAt = 0;
}

function fitText() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

$("text").oninput = () => {
  fitText();
  if (!$("text").value.trim() || !client.isConnected()) return stopTyping();
  clearTimeout(keys.rest);
  keys.rest = setTimeout(stopTyping, 4000);
  if (Date.now() - keys.toldAt < 3000) return;
  keys.toldAt = Date.now();
  client.sendMessage("typing_start", { roomId: room });
};
$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
};
$("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  stopTyping(false); // sending ends typing by itself
  post(text);
  $("text").value = "";
  fitText();
};
$("older").onclick = loadOlder;
$("pill").onclick = () => client.retryNow();
window.ononline = () => client.retryNow();
$("people-toggle").onclick = () => {
  $("people-toggle").setAttribute("aria-expanded", $("people").classList.toggle("open"));
};

function signIn(reason) {
  if (reason) $("sign-in-hint").textContent = `${reason}. A new token is needed.`;
  $("room").value = room;
  view.showChat(false);
}

function enter(token) {
  view.showChat(true);
  view.showRoom(room, "");
  client.connect(ownId, token);
  // What the page before had left.
  for (const { id, data } of client.pending()) if (data.roomId === room) pending(id, data.message);
  client.sendMessage("join_room", { roomId: room }).catch((error) => outside(error.message));
  $("text").focus();
}

$("sign-in").onsubmit = (event) => {
  event.preventDefault();
  // Another token or room is another page: nothing of the old one must remain.
  const next = new URLSearchParams({ ...settings, token: $("token").value.trim(), room: $("room").value.trim() });
  if (location.hash === `#${next}`) location.reload();
  else location.hash = next;
};
window.onhashchange = () => location.reload();

view.showState("disconnected", "Not connected");
if (settings.token) enter(settings.token);
else signIn();
