// Joins compiled modules into one: `node bundle.mjs ENTRY` prints it. It knows only what tsc makes of src/: imports of
// names from "./x.js" without renaming, exports in front of declarations, and the entry's lists of exports.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const entry = process.argv[2];
const folder = dirname(entry);
const done = new Set();
const declared = new Map();
const exported = [];
let text = "";

function add(path) {
  if (done.has(path)) return;
  done.add(path);
  const source = readFileSync(path, "utf8");
  for (const [, from] of source.matchAll(/^(?:import|export) .*from "\.\/(.+)";$/gm)) add(join(folder, from));
  const lists = [...source.matchAll(/^export \{ (.*) \} from .*$/gm)];
  if (path === entry) exported.push(...lists.flatMap(([, names]) => names.split(", ")));
  const own = source
    .replace(/^(?:import .*|export \{.*)\n/gm, "")
    .replace(/^export /gm, "");
  for (const [, name] of own.matchAll(/^(?:const|let|class|function|async function) (\w+)/gm)) {
    if (declared.has(name)) throw new Error(`${name} is declared in ${declared.get(name)} and in ${path}`);
    declared.set(name, path);
  }
  text += own;
}

add(entry);
if (/^import |\bfrom "/m.test(text)) throw new Error("an import was left over");
for (const name of exported) if (!declared.has(name)) throw new Error(`nothing is called ${name}`);
process.stdout.write(`// Generated from clients/typescript/src by clients/typescript/build-demo.sh: change it there.
${text}export { ${exported.join(", ")} };
`);
