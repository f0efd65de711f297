import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pod } from "@underlay/kube/objects";
import { hostsFile, podHostname, resolvConf } from "./resolver-files.ts";

const dns = {
  clusterDns: ["172.20.0.10"],
  clusterDomain: "cluster.local",
  nodeResolvConf: "search us-west-2.compute.internal\nnameserver 10.42.0.2\noptions timeout:2\n",
};
const pod = (spec: object): Pod =>
  ({ metadata: { name: "web-0", namespace: "shop" }, spec: { containers: [], ...spec } }) as unknown as Pod;
const cluster =
  "search shop.svc.cluster.local svc.cluster.local cluster.local us-west-2.compute.internal\nnameserver 172.20.0.10\noptions ndots:5\n";
const node = "search us-west-2.compute.internal\nnameserver 10.42.0.2\noptions timeout:2\n";

for (const [name, spec, text] of [
  ["ClusterFirst", {}, cluster],
  ["ClusterFirst on the host's network", { hostNetwork: true }, node],
  ["ClusterFirstWithHostNet", { hostNetwork: true, dnsPolicy: "ClusterFirstWithHostNet" }, cluster],
  ["Default", { dnsPolicy: "Default" }, node],
  [
    "None",
    {
      dnsPolicy: "None",
      dnsConfig: {
        nameservers: ["1.1.1.1"],
        searches: ["a.b"],
        options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
      },
    },
    "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
  ],
] as const) {
  test(`resolv.conf of ${name}`, () => assert.equal(resolvConf(pod(spec), dns), text));
}

test("dnsConfig overrides an option by name", () => {
  assert.match(resolvConf(pod({ dnsConfig: { options: [{ name: "ndots", value: "1" }] } }), dns), /options ndots:1\n$/);
});

test("hosts names the pod, its subdomain and its aliases", () => {
  const text = hostsFile(
    pod({ hostname: "web-0", subdomain: "web", hostAliases: [{ ip: "1.2.3.4", hostnames: ["x", "y"] }] }),
    ["10.0.0.9"],
    "cluster.local",
    "",
  );
  assert.match(text, /^10\.0\.0\.9\tweb-0\.web\.shop\.svc\.cluster\.local\tweb-0$/m);
  assert.match(text, /^1\.2\.3\.4\tx\ty$/m);
});

test("a host name is cut to 63 characters and does not end with a hyphen", () => {
  const long = {
    metadata: { name: `${"a".repeat(62)}-${"b".repeat(20)}` },
    spec: { containers: [] },
  } as unknown as Pod;
  assert.equal(podHostname(long), "a".repeat(62));
});
