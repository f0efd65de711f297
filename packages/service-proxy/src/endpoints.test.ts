import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndpointSlice } from "@underlay/kube/objects";
import { chooseEndpoints, keepPositions, type Endpoint } from "./endpoints.ts";

const node = { name: "n1", zone: "z1" };
const port = { name: "http", protocol: "TCP" };

type Given = {
  at: string;
  node?: string;
  ready?: boolean;
  serving?: boolean;
  terminating?: boolean;
  zones?: string[];
  nodes?: string[];
};

function slice(...given: Given[]): EndpointSlice {
  return {
    metadata: { name: "s" },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    endpoints: given.map(({ at, node: nodeName, zones, nodes, ...conditions }) => ({
      addresses: [at],
      nodeName,
      conditions,
      hints: { forZones: zones?.map((name) => ({ name })), forNodes: nodes?.map((name) => ({ name })) },
    })),
  } as unknown as EndpointSlice;
}

const chosen = (...given: Given[]): { cluster: string[]; local: string[]; any: boolean; localReady: number } => {
  const { cluster, local, any, localReady } = chooseEndpoints([slice(...given)], port, node);
  return { cluster: cluster.map((one) => one.address), local: local.map((one) => one.address), any, localReady };
};

test("ready endpoints serve; conditions that are not there mean ready", () => {
  assert.deepEqual(
    chosen({ at: "10.0.0.1", node: "n1" }, { at: "10.0.0.2", ready: true }, { at: "10.0.0.3", ready: false }),
    {
      cluster: ["10.0.0.1", "10.0.0.2"],
      local: ["10.0.0.1"],
      any: true,
      localReady: 1,
    },
  );
});

test("those that end serve while nobody is ready, and locally while nobody here is", () => {
  const leaving = { ready: false, serving: true, terminating: true };
  assert.deepEqual(chosen({ at: "10.0.0.1", node: "n1", ...leaving }, { at: "10.0.0.2", node: "n2" }), {
    cluster: ["10.0.0.2"],
    local: ["10.0.0.1"],
    any: true,
    localReady: 0,
  });
  assert.deepEqual(chosen({ at: "10.0.0.1", node: "n2", ...leaving }).cluster, ["10.0.0.1"]);
  assert.deepEqual(chosen({ at: "10.0.0.1", ready: false, serving: false, terminating: true }).any, false);
});

test("hints count only when every ready endpoint has them and one is for us", () => {
  assert.deepEqual(chosen({ at: "10.0.0.1", zones: ["z1"] }, { at: "10.0.0.2", zones: ["z2"] }).cluster, ["10.0.0.1"]);
  assert.deepEqual(chosen({ at: "10.0.0.1", zones: ["z1"] }, { at: "10.0.0.2" }).cluster, ["10.0.0.1", "10.0.0.2"]);
  assert.deepEqual(chosen({ at: "10.0.0.1", zones: ["z3"] }, { at: "10.0.0.2", zones: ["z2"] }).cluster, [
    "10.0.0.1",
    "10.0.0.2",
  ]);
  assert.deepEqual(
    chosen({ at: "10.0.0.1", nodes: ["n1"], zones: ["z2"] }, { at: "10.0.0.2", nodes: ["n2"], zones: ["z1"] }).cluster,
    ["10.0.0.1"],
  );
});

test("a port is found by name and protocol, an address in two slices counts once", () => {
  const both = [slice({ at: "10.0.0.1" }), slice({ at: "10.0.0.1" })];
  assert.equal(chooseEndpoints(both, port, node).cluster.length, 1);
  assert.equal(chooseEndpoints(both, { name: "http", protocol: "UDP" }, node).cluster.length, 0);
  assert.equal(chooseEndpoints(both, { name: "other", protocol: "TCP" }, node).cluster.length, 0);
});

test("endpoints keep their places; the last one fills a hole", () => {
  const of = (...names: string[]): Endpoint[] => names.map((address) => ({ address, port: 80, isLocal: false }));
  const order = (before: string[], wanted: string[]): string =>
    keepPositions(of(...before), of(...wanted))
      .map((one) => one.address)
      .join("");
  assert.equal(order([], ["a", "b"]), "ab");
  assert.equal(order(["a", "b", "c", "d"], ["b", "c", "d"]), "dbc");
  assert.equal(order(["a", "b", "c"], ["a", "b"]), "ab");
  assert.equal(order(["a", "b", "c"], ["b", "x"]), "xb");
  assert.equal(order(["a", "b"], []), "");
  assert.equal(order(["a", "b"], ["c"]), "c");
});
