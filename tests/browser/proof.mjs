// Two tabs of a real browser against a real server: they chat both ways, see typing and presence, survive SIGKILL and
// restart of the server without losing a message, and end with a drain.
//
// Usage: node tests/browser/proof.mjs BINARY PORT SHOTS_FOLDER
// Environment: BROWSER_TOOLS, a folder with node_modules/puppeteer-core and ws; CHROMIUM, the browser (/usr/bin/chromium).
// Exit code 0: everything was seen. Otherwise the first thing that was not seen is named, and the folder holds what was.
import { strict as assert } from "node:assert";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Program, Server } from "./server.mjs";
import { Tab } from "./tab.mjs";

const [binary, port, shotsFolder] = process.argv.slice(2);
if (!shotsFolder) {
  console.error("usage: node tests/browser/proof.mjs BINARY PORT SHOTS_FOLDER");
  process.exit(2);
}
const tools = resolve(process.env.BROWSER_TOOLS ?? "target/ci-tools/browser");
const puppeteer = createRequire(join(tools, "x")).resolve("puppeteer-core");
const { default: browsers } = await import(pathToFileURL(puppeteer));
const shots = resolve(shotsFolder);
mkdirSync(shots, { recursive: true });

const work = mkdtempSync(join(tmpdir(), "throng-browser-"));
const server = new Server(resolve(binary), port, join(work, "data"));
let browser = null;
let tabs = [];

async function step(name, body) {
  const begun = Date.now();
  await body();
  console.log(`ok  ${String(Date.now() - begun).padStart(6)} ms  ${name}`);
}

async function prove() {
  const addresses = await server.start();
  browser = await browsers.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    userDataDir: join(work, "profile"),
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
  const anna = await Tab.open(browser, addresses.anna, { width: 1100, height: 720 });
  const bob = await Tab.open(browser, addresses.bob, { width: 390, height: 844, isMobile: true, deviceScaleFactor: 2 });
  tabs = [anna, bob];
  const everywhere = (look) => Promise.all(tabs.map(look));
  const texts = [];
  const said = async (tab, text) => {
    await tab.say(text);
    texts.push(text);
    await everywhere((each) => each.sees(texts));
  };

  await step("both printed addresses sign in and join", () => everywhere((tab) => tab.is("connected")));
  await step("each sees the other online", () => everywhere((tab) => tab.seesOnline(["anna", "bob"])));
  await step("a key press shows as typing, and ends", async () => {
    await anna.type("Hello, B");
    await bob.seesTyping("anna is typing …");
    await bob.shoot(shots, "typing-phone");
    await anna.clear();
    await bob.seesTyping("");
  });
  await step("they chat both ways", async () => {
    await said(anna, "Hello, Bob. This goes through a ring of the kernel.");
    await said(bob, "Hello, Anna!");
    await said(bob, "On a phone it looks like this: a longer message that has to be broken into several lines.");
    await said(anna, "<b>not bold</b> & 🐝 ñ 漢字");
  });
  await anna.shoot(shots, "chat");
  await bob.shoot(shots, "chat-phone");
  await anna.shoot(shots, "chat-dark", "dark");
  await bob.shoot(shots, "chat-phone-dark", "dark");
  await bob.openPeople();
  await bob.shoot(shots, "people-phone");
  await bob.openPeople();

  await step("SIGKILL: both notice", async () => {
    await server.kill("SIGKILL");
    await everywhere((tab) => tab.isOneOf(["reconnecting", "connecting"]));
  });
  const waiting = "Written while the server was gone";
  await anna.say(waiting);
  await anna.seesPending(waiting);
  await anna.shoot(shots, "gone");
  await bob.shoot(shots, "gone-phone");

  await step("restart: both come back, nothing is lost, and what waited is sent once", async () => {
    await server.start();
    await everywhere((tab) => tab.is("connected"));
    texts.push(waiting);
    await everywhere((tab) => tab.sees(texts));
    await everywhere((tab) => tab.seesOnline(["anna", "bob"]));
  });
  await step("they chat again", async () => {
    await said(bob, "Still here?");
    await said(anna, "Still here.");
  });
  await step("a fresh page has the whole history", async () => {
    await bob.reload();
    await bob.is("connected");
    await everywhere((tab) => tab.sees(texts));
  });
  await step("what was written without a connection outlives a reload", async () => {
    await server.kill("SIGKILL");
    await everywhere((tab) => tab.isOneOf(["reconnecting", "connecting"]));
    const kept = "Written before a reload";
    await bob.say(kept);
    await bob.seesPending(kept);
    await server.start();
    await bob.reload();
    texts.push(kept);
    await everywhere((tab) => tab.sees(texts));
  });
  await anna.shoot(shots, "back");
  await bob.shoot(shots, "back-phone");

  await step("who closes the tab leaves the room", async () => {
    await bob.close();
    tabs = [anna];
    await anna.seesOnline(["anna"]);
  });
  await step("the README's example runs", () => readmeExample(addresses, texts, anna));

  await step("SIGTERM: the server drains and exits with 0, the tab is told to come back", async () => {
    assert.equal(await server.kill("SIGTERM"), 0, "exit code of the server");
    await anna.isOneOf(["reconnecting", "connecting"]);
  });
  await step("a page without a token asks for one", async () => {
    await server.start();
    const guest = await Tab.open(browser, `http://127.0.0.1:${port}/`, { width: 390, height: 844, isMobile: true });
    tabs = [guest];
    await guest.page.waitForSelector("#sign-in", { visible: true });
    await guest.shoot(shots, "sign-in-phone");
  });
  for (const tab of [anna, bob, ...tabs]) assert.deepEqual(tab.faults, [], "no script error on any page");
}

// The first JavaScript block of the README, as it stands there: what it sends must arrive in the tab.
async function readmeExample(addresses, texts, tab) {
  const [, code] = readFileSync(new URL("../../README.md", import.meta.url), "utf8").match(/```js\n(.*?)```/s) ?? [];
  assert.ok(code, "the README has a JavaScript block");
  const folder = mkdtempSync(join(tools, "example-"));
  try {
    writeFileSync(join(folder, "chat.mjs"), code);
    const token = new URLSearchParams(new URL(addresses.bob).hash.slice(1)).get("token");
    const url = `ws://127.0.0.1:${port}/ws`;
    const program = new Program(process.execPath, [join(folder, "chat.mjs")], { ...process.env, TOKEN: token, URL: url });
    const text = "Hello from a program";
    await tab.sees([...texts, text]);
    await program.prints(`bob: ${text}`);
    await program.kill("SIGKILL");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

let code = 0;
try {
  assert.ok(existsSync(binary), `no such program: ${binary}`);
  await prove();
  console.log(`browser: proved; screenshots in ${shotsFolder}`);
} catch (error) {
  code = 1;
  console.error(`browser: FAILED: ${error.stack ?? error}`);
  console.error(`browser: the server's log:\n${server.log}`);
  for (const [at, tab] of tabs.entries()) {
    console.error(`browser: tab ${at} shows: ${await tab.describe()}`);
    await tab.shoot(shots, `failed-${at}`).catch(() => {});
  }
} finally {
  await browser?.close().catch(() => {});
  await server.kill("SIGKILL");
  rmSync(work, { recursive: true, force: true });
}
process.exit(code);
