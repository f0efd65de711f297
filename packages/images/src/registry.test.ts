import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { catalogue } from "./catalogue.ts";
import { canonicalRepository, resolveImage } from "./registry.ts";

const names: readonly [string, string][] = [
  ["nginx", "docker.io/library/nginx"],
  ["nginx:1.26", "docker.io/library/nginx"],
  ["amazon/dynamodb-local:1.25.1", "docker.io/amazon/dynamodb-local"],
  ["registry.k8s.io/pause", "registry.k8s.io/pause"],
  ["localhost:5000/a/b:v1@sha256:00", "localhost:5000/a/b"],
];
for (const [reference, repository] of names) {
  test(`canonicalRepository() reads ${reference}`, () => assert.equal(canonicalRepository(reference), repository));
}

test("resolveImage() knows EKS's system images in every region", () => {
  const resolved = resolveImage("602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/coredns:v1.12.2-eksbuild.4");
  assert.match(resolved.ok ? resolved.image.entrypoint.join(" ") : resolved.message, /programs\/coredns\.mjs$/);
});

test("resolveImage() refuses an unknown image and lists those that exist", () => {
  const resolved = resolveImage("example.com/none:1");
  assert.equal(resolved.ok, false);
  assert.match(resolved.ok ? "" : resolved.message, /"example\.com\/none:1": not found.*registry\.k8s\.io\/pause/);
});

test("every image's program is one that is bundled, or a script of the repository", () => {
  const repository = resolve(import.meta.dirname, "../../..");
  const bundled = readFileSync(`${repository}/tools/build-programs.ts`, "utf8");
  const missing = catalogue
    .flatMap(({ entrypoint }) => entrypoint)
    .filter((word) => word.startsWith("/opt/underlay/") && !word.endsWith("/bin/node"))
    .filter((word) => {
      const program = /\.build\/programs\/(.+)\.mjs$/.exec(word)?.[1];
      return program
        ? !new RegExp(`^  "?${program}"?: `, "m").test(bundled)
        : !existsSync(word.replace("/opt/underlay", repository));
    });
  assert.deepEqual(missing, []);
});
