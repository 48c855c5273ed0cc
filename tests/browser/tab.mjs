// One tab with the demo chat: what a user does in it, and what a user must see. Waits until it is so.
import { join } from "node:path";

const PATIENCE_MS = 40000; // a reconnect may wait its turn: the back-off reaches 8 s while the server is restarted

export class Tab {
  faults = [];

  static async open(browser, address, viewport) {
    const page = await browser.newPage();
    const tab = new Tab(page);
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => tab.faults.push(String(error)));
    await page.setViewport(viewport);
    await page.goto(address);
    return tab;
  }

  constructor(page) {
    this.page = page;
  }

  is(state) {
    return this.isOneOf([state]);
  }

  isOneOf(states) {
    const look = (states) => states.includes(document.querySelector("#pill").dataset.state);
    return this.#until(`connection is ${states.join(" or ")}`, look, states);
  }

  seesOnline(users) {
    const look = (users) => {
      const shown = [...document.querySelectorAll("#online li > span:last-of-type")].map((name) => name.textContent);
      const count = document.querySelector("#online-count").textContent;
      return shown.sort().join() === users.join() && count === String(users.length);
    };
    return this.#until(`online: ${users}`, look, users);
  }

  seesTyping(text) {
    return this.#until(`typing: "${text}"`, (text) => document.querySelector("#typing").textContent === text, text);
  }

  // Exactly these messages in this order, each confirmed by the server.
  sees(texts) {
    const look = (texts) => {
      const shown = [...document.querySelectorAll(".message")];
      return shown.every((message) => message.dataset.offset && !message.matches(".pending, .failed"))
        && JSON.stringify(shown.map((message) => message.querySelector(".bubble").textContent)) === JSON.stringify(texts);
    };
    return this.#until(`messages: ${JSON.stringify(texts)}`, look, texts);
  }

  seesPending(text) {
    const look = (text) => [...document.querySelectorAll(".message.pending .bubble")].some((one) => one.textContent === text);
    return this.#until(`pending: ${text}`, look, text);
  }

  async type(text) {
    await this.page.bringToFront();
    await this.page.type("#text", text);
  }

  async say(text) {
    await this.type(text);
    await this.page.keyboard.press("Enter");
  }

  async clear() {
    await this.page.bringToFront();
    await this.page.focus("#text");
    while (await this.page.$eval("#text", (field) => field.value)) await this.page.keyboard.press("Backspace");
  }

  openPeople() {
    return this.page.bringToFront().then(() => this.page.click("#people-toggle"));
  }

  async reload() {
    await this.page.reload();
  }

  // As a user closes it: with its unload handlers, and with a close frame.
  close() {
    return this.page.close();
  }

  async shoot(folder, name, scheme = "light") {
    await this.page.bringToFront();
    await this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await this.page.screenshot({ path: join(folder, `${name}.png`) });
    await this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  }

  // For a report of what went wrong.
  async describe() {
    const text = await this.page.evaluate(() => document.body.innerText).catch((error) => String(error));
    return JSON.stringify({ text, faults: this.faults });
  }

  async #until(what, look, ...args) {
    try {
      // A tab in the background draws no frames, so it is asked by the clock.
      await this.page.waitForFunction(look, { polling: 50 }, ...args);
    } catch (error) {
      throw new Error(`not seen: ${what} (${error.message})`);
    }
  }
}
