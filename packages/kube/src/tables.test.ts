import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pod } from "./objects.ts";
import { podRequests, podHostPorts, podQosClass } from "./pod.ts";
import { formatQuantity, parseQuantity, quantityMilli } from "./quantity.ts";
import { formatSelector, matchesRequirements, parseSelector } from "./selectors.ts";
import { WorkQueue } from "./workqueue.ts";
import { LineSplitter } from "./watch.ts";
import { until } from "./small-server.test-support.ts";

test("selectors match as upstream does", () => {
  const labels = { a: "1", b: "x" };
  const table: [string, boolean][] = [
    ["", true],
    ["a=1,b==x", true],
    ["a!=1", false],
    ["c!=1", true],
    ["b in (x, y),!c", true],
    ["b notin (x)", false],
    ["c notin (x)", true],
    ["a", true],
    ["!a", false],
    ["a>0", true],
    ["a<1", false],
  ];
  for (const [text, expected] of table) assert.equal(matchesRequirements(parseSelector(text), labels), expected, text);
  assert.throws(() => parseSelector("a=(b"), /Cannot parse/);
  assert.equal(
    formatSelector({
      matchLabels: { a: "1" },
      matchExpressions: [
        { key: "b", operator: "In", values: ["y", "x"] },
        { key: "c", operator: "DoesNotExist" },
      ],
    }),
    "a=1,b in (x,y),!c",
  );
});

test("quantities are read and written canonically", () => {
  const table: [string, number, string][] = [
    ["100m", 0.1, "100m"],
    ["0.5", 0.5, "500m"],
    ["1000m", 1, "1"],
    ["2e3", 2000, "2k"],
    ["1.5", 1.5, "1500m"],
  ];
  for (const [text, value, written] of table) {
    assert.equal(parseQuantity(text), value, text);
    assert.equal(formatQuantity(value), written, text);
  }
  assert.equal(parseQuantity("1.5Gi"), 1.5 * 2 ** 30);
  assert.equal(formatQuantity(2 ** 30, "BinarySI"), "1Gi");
  assert.equal(quantityMilli("0.1"), 100);
  assert.throws(() => parseQuantity("ten"), /Cannot parse the quantity/);
});

test("a pod's requests are its containers or its worst moment of initialisation, sidecars in both", () => {
  const container = (cpu: string, more = {}) => ({ name: "c", resources: { requests: { cpu } }, ...more });
  const pod: Pod = {
    metadata: { name: "p" },
    spec: {
      containers: [container("100m"), container("200m")],
      initContainers: [container("50m", { restartPolicy: "Always" }), container("1")],
      overhead: { cpu: "10m" },
    },
  };
  assert.deepEqual(podRequests(pod), { cpu: 1060 });
  const plain: Pod = {
    metadata: { name: "p" },
    spec: { hostNetwork: true, containers: [{ name: "c", ports: [{ containerPort: 61678 }] }] },
  };
  assert.deepEqual(podHostPorts(plain), [{ protocol: "TCP", hostIP: "0.0.0.0", port: 61678 }]);
  assert.equal(podQosClass(pod), "Burstable");
  assert.equal(podQosClass(plain), "BestEffort");
});

test("work queue runs a key once at a time, again when added meanwhile, and backs off after failures", async () => {
  const queue = new WorkQueue({ baseDelayMs: 1, maxDelayMs: 4 });
  const stop = new AbortController();
  const runs: string[] = [];
  let active = 0;
  const failures: number[] = [];
  const done = queue.run({
    workers: 3,
    signal: stop.signal,
    reconcile: async (key) => {
      active += 1;
      assert.equal(active, key === "bad" ? active : 1);
      if (runs.length === 0) queue.add("k");
      runs.push(key);
      await new Promise((resolve) => setImmediate(resolve));
      active -= 1;
      if (key === "bad" && failures.length < 3) throw new Error("no");
    },
    onError: (_key, _err, count) => failures.push(count),
  });
  queue.add("k");
  queue.add("k");
  await until(() => runs.length === 2 && queue.idle, "the key ran twice");
  queue.add("bad");
  await until(() => runs.length === 6, "the failing key ran four times");
  stop.abort();
  await done;
  assert.deepEqual(failures, [1, 2, 3]);
});

test("lines may be cut anywhere, also inside a character", () => {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line));
  for (const byte of Buffer.from("äb\n\ncd\ne")) splitter.push(Buffer.from([byte]));
  assert.deepEqual(lines, ["äb", "cd"]);
});
