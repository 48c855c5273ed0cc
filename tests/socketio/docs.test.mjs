// The examples of docs/SOCKETIO.md, as they stand there, each against a server of its own: what the text block behind one says must
// be all that it prints.
import { strict as assert } from "node:assert";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Server } from "./server.mjs";
import { python, root, toolsFolder } from "./tools.mjs";

const text = readFileSync(join(root, "docs/SOCKETIO.md"), "utf8");
const blocks = /<!-- example: ([^;>]*?)(?:; settings: (\S+))? -->\n```(js|python)\n([^]*?)```\n```text\n([^]*?)```/g;
const examples = [...text.matchAll(blocks)];

// What the settings are called in tests.
const OPTIONS = { "sio.app_events=true": { appEvents: true }, "sio.eio3=true": { eio3: true } };

describe("docs/SOCKETIO.md", () => {
  it("has its examples, and none that is not run", () => {
    assert.equal(examples.length, (text.match(/^```(js|python)$/gm) ?? []).length);
    assert.ok(examples.length >= 7);
  });

  for (const [, name, settings, language, code, expected] of examples) {
    it(name, async () => {
      const options = settings ? OPTIONS[settings] : {};
      assert.ok(options, `tests do not know ${settings}`);
      const server = await Server.start(options);
      // Beside the packages, so that it finds them.
      const folder = mkdtempSync(join(toolsFolder, "example-"));
      try {
        const file = join(folder, language === "js" ? "example.mjs" : "example.py");
        writeFileSync(file, code.replaceAll("https://chat.example.com", server.url));
        const env = { ...process.env, TOKEN: server.token("anna"), OTHER_TOKEN: server.token("bob") };
        const program = language === "js" ? process.execPath : python;
        const printed = await new Promise((done) => {
          execFile(program, [file], { env, timeout: 60000 }, (error, out, err) => done(`${out}${err}${error ? `\n${error}` : ""}`));
        });
        assert.equal(printed, expected);
      } finally {
        rmSync(folder, { recursive: true, force: true });
        await server.stop();
      }
    });
  }
});
