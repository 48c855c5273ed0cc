// Judges the index.json of an Autobahn run. Two rules, both must hold:
//   1. every case ended OK, NON-STRICT or INFORMATIONAL, in its behaviour and in its closing behaviour;
//   2. every case ended as expected.json says, so that a change for better or worse is a change to a file.
// Cases that the specification of the run does not name are not looked at.
// Usage: node judge.mjs INDEX EXPECTED SPEC [--update]   (--update writes what ran to EXPECTED; rule 1 still decides the exit code)
import { readFileSync, writeFileSync } from "node:fs";

const [indexPath, expectedPath, specPath, flag] = process.argv.slice(2);
const good = new Set(["OK", "NON-STRICT", "INFORMATIONAL"]);

/** "9.10.1" after "9.2.1": numbers compare as numbers. */
function byNumber(a, b) {
  const [x, y] = [a, b].map((id) => id.split(".").map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    if (x[i] !== y[i]) return (x[i] ?? -1) - (y[i] ?? -1);
  }
  return 0;
}

const patterns = JSON.parse(readFileSync(specPath, "utf8")).cases;

/** By the suite's own rule: a star stands for the rest. */
function isSelected(id) {
  return patterns.some((pattern) => (pattern.endsWith("*") ? id.startsWith(pattern.slice(0, -1)) : id === pattern));
}

const agents = Object.values(JSON.parse(readFileSync(indexPath, "utf8")));
if (agents.length !== 1) throw new Error(`${indexPath} holds ${agents.length} agents; one was tested`);
const results = agents[0];
const cases = Object.keys(results).sort(byNumber);
const told = ({ behavior, behaviorClose }) => `${behavior}, close ${behaviorClose}`;

const problems = [];
for (const id of cases) {
  const { behavior, behaviorClose } = results[id];
  if (!good.has(behavior) || !good.has(behaviorClose)) problems.push(`${id}: ${told(results[id])}`);
}

const expected = JSON.parse(readFileSync(expectedPath, "utf8"));
if (flag === "--update") {
  const kept = Object.entries(expected).filter(([id]) => !isSelected(id));
  const all = { ...Object.fromEntries(kept), ...results };
  const lines = Object.keys(all).sort(byNumber).map((id) => {
    const { behavior, behaviorClose } = all[id];
    return `  ${JSON.stringify(id)}: ${JSON.stringify({ behavior, behaviorClose })}`;
  });
  writeFileSync(expectedPath, `{\n${lines.join(",\n")}\n}\n`);
} else {
  const known = Object.keys(expected).filter(isSelected);
  for (const id of [...new Set([...cases, ...known])].sort(byNumber)) {
    if (!results[id]) problems.push(`${id}: expected, but did not run`);
    else if (!expected[id]) problems.push(`${id}: ran, but expected.json does not know it`);
    else if (told(results[id]) !== told(expected[id])) {
      problems.push(`${id}: ${told(results[id])}; expected ${told(expected[id])}`);
    }
  }
}

const counts = {};
for (const id of cases) counts[results[id].behavior] = (counts[results[id].behavior] ?? 0) + 1;
const summary = Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(", ");
for (const problem of problems) console.log(`autobahn: ${problem}`);
console.log(`autobahn: ${cases.length} cases: ${summary}; ${problems.length} problems`);
process.exitCode = problems.length || cases.length === 0 ? 1 : 0;
