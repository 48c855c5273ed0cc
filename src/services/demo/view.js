// The page: messages in order, people, toasts. It knows no protocol. Whatever comes from a user is set as text.

export const $ = (id) => document.getElementById(id);
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const shown = new Map(); // offset → element

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function avatar(userId) {
  const element = make("span", "avatar", [...userId][0]?.toUpperCase() ?? "?");
  let hue = 7;
  for (const character of userId) hue = (hue * 31 + character.codePointAt(0)) % 360;
  element.style.setProperty("--hue", (hue * 137) % 360); // neighbours far apart
  return element;
}

function bubble(userId, text, timestamp, isOwn) {
  const element = make("li", isOwn ? "message own" : "message");
  element.dataset.user = userId;
  const who = make("span", "who");
  who.append(make("b", "", userId), make("span", "when", clock(timestamp)));
  element.append(avatar(userId), who, make("div", "bubble", text));
  return element;
}

export function showMessage({ offset, userId, message, timestamp }, isOwn) {
  if (!shown.has(offset)) place(bubble(userId, message, timestamp, isOwn), offset);
}

export function showNote(offset, text) {
  if (!shown.has(offset)) place(make("li", "note", text), offset);
}

// A message that is on its way: stays last until `confirm`.
export function showPending(userId, text, state) {
  const element = bubble(userId, text, Date.now(), true);
  element.append(make("span", "state", ""));
  mark(element, "pending", state);
  keepBottom(() => $("messages").append(element), true);
  regroup(element);
  showEmpty();
  return element;
}

export function mark(element, state, text) {
  element.classList.remove("pending", "failed");
  if (state) element.classList.add(state);
  element.querySelector(".state").textContent = text;
}

export function confirm(element, offset, timestamp) {
  if (shown.has(offset)) {
    element.remove();
    return;
  }
  element.querySelector(".when").textContent = clock(timestamp);
  mark(element, "", "");
  place(element, offset);
}

export function clearMessages() {
  for (const element of shown.values()) element.remove();
  shown.clear();
}

export const oldestOffset = () => Math.min(...shown.keys());

// Runs a change that adds messages above, and leaves those in sight where they are.
export function above(change) {
  const scroll = $("scroll");
  const below = scroll.scrollHeight - scroll.scrollTop;
  change();
  scroll.scrollTop = scroll.scrollHeight - below;
}

function place(element, offset) {
  element.dataset.offset = offset;
  shown.set(offset, element);
  keepBottom(() => {
    const isEarlier = (other) => Number(other.dataset.offset) < offset; // never for what has no offset yet
    let before = $("messages").lastElementChild;
    while (before && (before === element || !isEarlier(before))) before = before.previousElementSibling;
    if (before) before.after(element);
    else $("messages").prepend(element);
  });
  regroup(element);
  regroup(element.nextElementSibling);
  showEmpty();
}

// A run of messages by one user shows the name once.
function regroup(element) {
  const user = element?.dataset.user;
  element?.classList.toggle("joined", user !== undefined && element.previousElementSibling?.dataset.user === user);
}

function keepBottom(change, isForced = false) {
  const scroll = $("scroll");
  const isAtBottom = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  change();
  if (isAtBottom || isForced) scroll.scrollTop = scroll.scrollHeight;
}

export function showEmpty() {
  $("empty").hidden = $("messages").childElementCount > 0;
}

export function showRoom(name, about) {
  $("room-name").textContent = name;
  $("room-about").textContent = about;
  document.title = `${name} · Throng`;
}

// `people`: user id → status.
export function showPeople(people, count, ownId) {
  $("online-count").textContent = count;
  $("people-toggle").textContent = `${count} online`;
  const sorted = [...people].sort(([one], [two]) => one.localeCompare(two)).slice(0, 200);
  $("online").replaceChildren(...sorted.map(([userId, status]) => {
    const row = make("li", status === "idle" ? "idle" : "");
    row.append(avatar(userId), make("span", "", userId));
    if (userId === ownId) row.append(make("small", "", "you"));
    return row;
  }));
}

export function showTyping(names) {
  const list = names.length > 2 ? "Several people" : names.join(" and ");
  $("typing").textContent = names.length ? `${list} ${names.length > 1 ? "are" : "is"} typing …` : "";
}

export function showState(state, text) {
  $("pill").dataset.state = state;
  $("pill").textContent = text;
  $("online").classList.toggle("stale", state !== "connected"); // who was here last, not who is
}

export function toast(text, isBad = false) {
  const element = make("div", isBad ? "toast bad" : "toast", text);
  $("toasts").append(element);
  while ($("toasts").childElementCount > 3) $("toasts").firstElementChild.remove();
  setTimeout(() => element.remove(), 5000);
}

export function showChat(isChat) {
  $("welcome").hidden = isChat;
  $("chat").hidden = $("people-toggle").hidden = !isChat;
}
