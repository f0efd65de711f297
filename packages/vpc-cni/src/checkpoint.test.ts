import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import {
  checkpointFile,
  forgiveTornCheckpoint,
  formatCheckpoint,
  parseCheckpoint,
  type Allocation,
} from "./checkpoint.ts";

/** As the Go program writes it: field order, digits beyond 2^53, omitted empty metadata, a newline at the end. */
const text =
  '{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"8f1c","ifName":"eth0","ipv4":"10.42.97.12",' +
  '"allocationTimestamp":1719941234567890123,"metadata":{"k8sPodNamespace":"carts","k8sPodName":"carts-0","interfacesCount":1}},' +
  '{"networkName":"aws-cni","containerID":"9a","ifName":"eth0","ipv4":"10.42.97.13","allocationTimestamp":2,"metadata":{}}]}\n';

const allocations: readonly Allocation[] = [
  {
    key: { networkName: "aws-cni", containerId: "8f1c", ifName: "eth0" },
    address: "10.42.97.12",
    allocatedNs: 1719941234567890123n,
    pod: { namespace: "carts", name: "carts-0", interfacesCount: 1 },
  },
  {
    key: { networkName: "aws-cni", containerId: "9a", ifName: "eth0" },
    address: "10.42.97.13",
    allocatedNs: 2n,
    pod: { namespace: "", name: "", interfacesCount: 0 },
  },
];

test("the checkpoint is byte for byte upstream's, both ways", () => {
  assert.equal(formatCheckpoint(allocations), text);
  assert.deepEqual(parseCheckpoint(text), allocations);
});

test("parseCheckpoint() refuses another version and text that is not JSON", () => {
  assert.throws(() => parseCheckpoint('{"version":"vpc-cni-ipam/2","allocations":[]}'), { code: "checkpoint-version" });
  assert.throws(() => parseCheckpoint('{"version":'), { code: "checkpoint-unreadable" });
});

test("checkpointFile() writes mode 0600, replaces whole, and reads nothing where no file is", (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "ul-checkpoint-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "aws-node", "ipam.json");
  const store = checkpointFile(file);
  assert.equal(store.read(), undefined);
  store.write(allocations);
  assert.equal(readFileSync(file, "utf8"), text);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  writeFileSync(`${file}.tmp1`, "half a checkp");
  assert.deepEqual(store.read(), allocations);
});

test("forgiveTornCheckpoint() starts empty only where no pod link is left", () => {
  const torn = { read: () => parseCheckpoint(text.slice(0, 200)), write: () => {} };
  assert.equal(forgiveTornCheckpoint(torn, () => false).read(), undefined);
  assert.throws(() => forgiveTornCheckpoint(torn, () => true).read(), { code: "checkpoint-unreadable" });
  const newer = { read: () => parseCheckpoint('{"version":"vpc-cni-ipam/2","allocations":[]}'), write: () => {} };
  assert.throws(() => forgiveTornCheckpoint(newer, () => false).read(), { code: "checkpoint-version" });
});
