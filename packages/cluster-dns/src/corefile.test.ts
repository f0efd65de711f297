import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { parseCorefile } from "./corefile.ts";

const manifest = readFileSync(`${import.meta.dirname}/../manifests/coredns.yaml`, "utf8");
const corefile = parseAllDocuments(manifest)
  .map((document) => document.toJS())
  .find((object) => object.kind === "ConfigMap").data.Corefile as string;

test("parseCorefile() reads the add-on's Corefile", () => {
  assert.deepEqual(parseCorefile(corefile), {
    port: 53,
    zone: "cluster.local",
    reverseZones: ["in-addr.arpa", "ip6.arpa"],
    podRecords: "insecure",
    ttlSeconds: 5,
    upstream: ["/etc/resolv.conf"],
    cacheSeconds: 30,
    healthPort: 8080,
    lameduckMs: 5000,
    readyPort: 8181,
    metricsPort: 9153,
    logQueries: false,
    reload: true,
    rotate: true,
  });
});

const refused: readonly [string, RegExp][] = [
  [".:53 {\n rewrite name a b\n}", /line 2: plugin rewrite is not supported/],
  [
    ".:53 {\n kubernetes cluster.local {\n pods verified\n }\n}",
    /line 3: kubernetes option pods verified is not supported/,
  ],
  [".:53 {\n errors\n}", /no kubernetes plugin/],
  [".:53 {\n errors\n", /never closed/],
  ["example.org {\n errors\n}", /only the root zone/],
];
for (const [text, message] of refused) {
  test(`parseCorefile() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseCorefile(text), message);
  });
}
