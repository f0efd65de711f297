import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApiObject } from "../api-object.ts";
import { createServiceAllocator } from "./service-allocation.ts";

const service = (name: string, spec: object = {}): ApiObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "n" },
  spec: { type: "ClusterIP", ports: [{ port: 80, protocol: "TCP" }], ...spec },
});
const info = { storage: "/services" } as never;

test("addresses come from the upper band, all distinct, then from the lower one, then run out", () => {
  const allocator = createServiceAllocator("10.0.0.0/26", []);
  const made: string[] = [];
  for (let i = 0; i < 62; i++) {
    const s = service(`s${i}`);
    assert.deepEqual(allocator.allocate(s, undefined, false), []);
    made.push(s["spec"].clusterIP);
  }
  assert.equal(new Set(made).size, 62);
  const last = (ip: string): number => Number(ip.split(".")[3]);
  assert.ok(made.slice(0, 46).every((ip) => last(ip) > 16));
  assert.match(allocator.allocate(service("full"), undefined, false)[0]!.detail!, /range is full/);
  assert.equal(allocator.nth(1), "10.0.0.1");
});

test("a chosen address is refused when taken or outside, and free again after release", () => {
  const first = service("a", { clusterIP: "10.0.0.10" });
  const allocator = createServiceAllocator("10.0.0.0/24", []);
  assert.deepEqual(allocator.allocate(first, undefined, false), []);
  assert.match(
    allocator.allocate(service("b", { clusterIP: "10.0.0.10" }), undefined, false)[0]!.detail!,
    /already allocated/,
  );
  assert.match(
    allocator.allocate(service("b", { clusterIP: "10.9.0.10" }), undefined, false)[0]!.detail!,
    /not in the valid range/,
  );
  allocator.release(info, first);
  assert.deepEqual(allocator.allocate(service("b", { clusterIP: "10.0.0.10" }), undefined, false), []);
});

test("one number serves TCP and UDP of a Service; an update keeps its ports", () => {
  const allocator = createServiceAllocator("10.0.0.0/24", []);
  const dns = service("dns", {
    type: "NodePort",
    ports: [
      { port: 53, protocol: "TCP", name: "t" },
      { port: 53, protocol: "UDP", name: "u" },
    ],
  });
  assert.deepEqual(allocator.allocate(dns, undefined, false), []);
  const [tcp, udp] = dns["spec"].ports;
  assert.equal(tcp.nodePort, udp.nodePort);
  const next = structuredClone(dns);
  for (const port of next["spec"].ports) delete port.nodePort;
  assert.deepEqual(allocator.allocate(next, dns, false), []);
  assert.deepEqual(next["spec"].ports, dns["spec"].ports);
});

test("a dry run reserves nothing", () => {
  const allocator = createServiceAllocator("10.0.0.0/24", []);
  allocator.allocate(service("a", { clusterIP: "10.0.0.10" }), undefined, true);
  assert.deepEqual(allocator.allocate(service("b", { clusterIP: "10.0.0.10" }), undefined, false), []);
});
