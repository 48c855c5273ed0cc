// Demo client of the native protocol: one room. What the server says becomes state here and is shown by view.js.
import { Link, newId } from "/demo/link.js";
import * as view from "/demo/view.js";
const { $, toast } = view;

// `#token=…&room=…&name=…`: a fragment never leaves the browser.
const settings = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const room = settings.room || "lobby";
const RETRY_FOR_MS = 300000; // the server remembers client ids this long
let link = null;
let ownId = "";
let position = null; // {epoch, offset} of the newest durable event that was applied
let onlineCount = 0;
const outbox = new Map(); // client id → {text, element, since}: not yet acknowledged, in order
const people = new Map(); // user id → status
const typing = new Map(); // user id → expiry timer

// ---------------------------------------------------------------- what the server says

// Each offset is applied once, whatever is replayed.
const durable = (apply) => (data) => {
  if (position && data.epoch === position.epoch && data.offset <= position.offset) return;
  position = { epoch: data.epoch, offset: data.offset };
  apply(data);
};
const note = (text) => durable((data) => view.showNote(data.offset, text(data)));

const handlers = {
  room_state: snapshot,
  chat_message: durable(message),
  member_added: note((data) => `${data.userId} became a member`),
  member_removed: note((data) => `${data.userId} is no longer a member`),
  role_changed: note((data) => `${data.userId} is now ${data.role}`),
  room_updated: note((data) => `${data.userId} changed the room`),
  room_closed(data) {
    view.showState("stopped", "Not in the room");
    toast(`The room was closed: ${data.reason}`, true);
  },
  user_joined(data) {
    people.set(data.userId, "online");
    showPeople(people.size);
  },
  user_left(data) {
    people.delete(data.userId);
    setTyping(data.userId, false);
    showPeople(people.size);
  },
  room_occupancy: (data) => showPeople(data.online),
  typing_indicator: (data) => setTyping(data.userId, data.isTyping),
  token_expiring: () => toast("This sign-in ends in a minute"),
};

// Types that are not listed are ignored.
function dispatch(type, data) {
  const isElsewhere = data.roomId !== undefined && data.roomId !== room;
  if (!isElsewhere && Object.hasOwn(handlers, type)) handlers[type](data);
}

function snapshot(data) {
  if (data.recovered === true) {
    for (const event of data.events) dispatch(event.type, event.data);
  } else {
    if (data.recovered === false) toast("Too much was missed: these are the newest messages");
    view.clearMessages();
    data.recentMessages.forEach(message);
    $("older").hidden = !(data.recentMessages[0]?.offset > 1);
  }
  position = { epoch: data.epoch, offset: data.offset };
  people.clear();
  for (const user of data.onlineUsers) people.set(user.userId, user.status);
  showPeople(data.onlineCount);
  view.showRoom(data.roomInfo.name || room, data.roomInfo.description || `Signed in as ${settings.name || ownId}`);
  view.showState("connected", "Connected");
  view.showEmpty();
  for (const id of outbox.keys()) send(id);
}

function message(data) {
  const isOwn = data.userId === ownId;
  if (isOwn) confirmed(data.clientId, data.offset, data.timestamp);
  view.showMessage(data, isOwn);
}

function showPeople(count) {
  onlineCount = count;
  view.showPeople(people, onlineCount, ownId);
}

function setTyping(userId, isTyping) {
  clearTimeout(typing.get(userId));
  typing.delete(userId);
  // The server ends typing itself; the timer is for an end that got lost.
  if (isTyping) typing.set(userId, setTimeout(setTyping, 8000, userId, false));
  view.showTyping([...typing.keys()]);
}

// ---------------------------------------------------------------- what we say

function join() {
  const recover = position ? { recover: position } : {};
  link.request("join_room", { roomId: room, ...recover }, (error) => {
    if (!error) return;
    toast(error.message, true);
    if (error.retryable) setTimeout(() => link.isReady && join(), error.retryAfterMs ?? 2000);
    else view.showState("stopped", "Not in the room");
  });
}

function post(text) {
  const id = newId();
  const element = view.showPending(ownId, text, link.isReady ? "Sending" : "Waiting for the connection");
  outbox.set(id, { text, element, since: Date.now() });
  send(id);
}

// Sends or repeats one message under its own id: the server stores it once (R-CHAT-3).
function send(id) {
  const entry = outbox.get(id);
  if (!entry || !link.isReady) return;
  link.request("chat_message", { roomId: room, message: entry.text }, (error, result) => {
    if (!error) return confirmed(id, result.offset, result.timestamp);
    if (error.retryable && Date.now() - entry.since < RETRY_FOR_MS) {
      view.mark(entry.element, "pending", error.message);
      setTimeout(send, error.retryAfterMs ?? 2000, id);
    } else {
      outbox.delete(id);
      view.mark(entry.element, "failed", error.message);
    }
  }, id);
}

// By the ack, or by the message itself if the ack was lost.
function confirmed(id, offset, timestamp) {
  const entry = outbox.get(id);
  if (!entry) return;
  outbox.delete(id);
  view.confirm(entry.element, offset, timestamp);
}

function loadOlder() {
  link.request("get_history", { roomId: room, before: view.oldestOffset(), limit: 50 }, (error, result) => {
    if (error) return toast(error.message, true);
    view.above(() => result.messages.forEach((data) => view.showMessage(data, data.userId === ownId)));
    $("older").hidden = !result.hasMore;
  });
}

// ---------------------------------------------------------------- the page's own events

// Typing is told at most each 3 s while keys are pressed, and taken back when the field is emptied or rests.
const keys = { toldAt: 0, rest: 0 };
function stopTyping(isTold = true) {
  clearTimeout(keys.rest);
  if (keys.toldAt && isTold) link.request("typing_stop", { roomId: room });
  keys.toldAt = 0;
}

function fitText() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

$("text").oninput = () => {
  fitText();
  if (!$("text").value.trim() || !link.isReady) return stopTyping();
  clearTimeout(keys.rest);
  keys.rest = setTimeout(stopTyping, 4000);
  if (Date.now() - keys.toldAt < 3000) return;
  keys.toldAt = Date.now();
  link.request("typing_start", { roomId: room });
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
$("pill").onclick = () => link?.retryNow();
window.ononline = () => link?.retryNow();
$("people-toggle").onclick = () => {
  $("people-toggle").setAttribute("aria-expanded", $("people").classList.toggle("open"));
};

function signIn(reason) {
  if (reason) $("sign-in-hint").textContent = `${reason}. A new token is needed.`;
  $("room").value = room;
  view.showChat(false);
}

function enter(token) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  link = new Link(`${scheme}//${location.host}/ws`, token, {
    ready(data) {
      ownId = data.userId;
      join();
    },
    event: dispatch,
    error: (error) => toast(error.message, true),
    state: view.showState,
    signIn,
    stopped: (reason) => toast(reason, true),
  });
  view.showChat(true);
  view.showRoom(room, "");
  link.connect();
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
