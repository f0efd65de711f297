import assert from "node:assert/strict";
import { test } from "node:test";
import { childOf, escapeXml, parseXml } from "./xml.ts";

test("text comes back as it went out", () => {
  const text = `a < b && "c" > 'd' é \u{1F600}\r\n\ttab`;
  const root = parseXml(
    `<?xml version="1.0"?>\n<Root xmlns="http://x/"><v>${escapeXml(text)}</v><e/><n:s xmlns:n="y"><![CDATA[<raw>]]></n:s></Root>`,
  );
  assert.equal(childOf(root, "v")?.text, text);
  assert.equal(childOf(root, "e")?.text, "");
  assert.equal(childOf(root, "s")?.text, "<raw>");
});

test("characters that XML cannot hold are replaced, not sent", () => {
  assert.equal(escapeXml("a\u0000b\u000bc"), "a\ufffdb\ufffdc");
});

for (const bad of ["", "<a>", "<a></b>", "<a></a", "text", "<a><b></a></b>"])
  test(`${JSON.stringify(bad)} is refused`, () => assert.throws(() => parseXml(bad), SyntaxError));
