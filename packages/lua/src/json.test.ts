import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";

const skip = existsSync("/usr/bin/luajit") ? false : "needs Debian's luajit";
const room = resolve(import.meta.dirname, "..");
const repo = resolve(room, "../..");
let dir = "";

/** Reads JSON and writes it again, both with this room's own code on LuaJIT. */
const program = `import { parse, stringify } from "@underlay/lua/json";
import { readAll, writeAll } from "@underlay/lua/unix-socket";
try { writeAll(1, stringify(parse(readAll(0)))); } catch (reason) { writeAll(1, tostring(reason)); os.exit(1); }
`;

before(() => {
  if (skip) return;
  dir = mkdtempSync(join(tmpdir(), "lua-"));
  const entry = join(room, `.echo-${process.pid}.ts`);
  writeFileSync(entry, program);
  try {
    execFileSync(process.execPath, [join(room, "build.ts"), repo, entry, join(dir, "echo.lua")]);
  } finally {
    rmSync(entry);
  }
});
after(() => rmSync(dir, { recursive: true, force: true }));

const echo = (input: string) => spawnSync("/usr/bin/luajit", [join(dir, "echo.lua")], { input, encoding: "utf8" });

for (const value of [
  { a: [1, 2.5, -3], b: [], c: {}, d: "x", e: true, f: false, g: [[], [{}]] },
  'quotes " back\\slash \n\t\r control \u0001 umlaut ä smile 😀',
  [],
  {},
  12345678901,
  0.125,
  [{ deep: { deeper: [{ x: "y" }] } }],
]) {
  test(`JSON survives: ${JSON.stringify(value).slice(0, 40)}`, { skip }, () => {
    const { stdout, status } = echo(JSON.stringify(value));
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), value);
  });
}

test("escapes are read as the characters they stand for", { skip }, () => {
  assert.equal(JSON.parse(echo('"\\u00e4 \\ud83d\\ude00 \\/ \\b"').stdout), "ä 😀 / \b");
});

test("a null member is left out", { skip }, () => {
  assert.deepEqual(JSON.parse(echo('{"a":null,"b":1}').stdout), { b: 1 });
});

for (const text of ["", "{", "[1,", '{"a"}', '{"a":1 "b":2}', "nul", '"open', "1 2", "{a:1}"]) {
  test(`refuses ${JSON.stringify(text)}`, { skip }, () => {
    const { stdout, status } = echo(text);
    assert.equal(status, 1);
    assert.match(stdout, /^Cannot parse JSON at byte \d+/);
  });
}
