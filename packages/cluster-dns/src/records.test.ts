import assert from "node:assert/strict";
import { test } from "node:test";
import {
  answerReverse,
  answerZone,
  type ClusterView,
  type EndpointAddress,
  type ServiceRecord,
  type ZoneAnswer,
} from "./records.ts";

const zone = { zone: "cluster.local", podRecords: "insecure", ttlSeconds: 5 } as const;
const http = { name: "http", protocol: "TCP", port: 80 };

function service(name: string, more: Partial<ServiceRecord> = {}): ServiceRecord {
  return {
    name,
    namespace: "shop",
    clusterIps: ["172.20.1.1"],
    externalName: undefined,
    headless: false,
    publishNotReady: false,
    ports: [http],
    ...more,
  };
}
const headless = (name: string, more: Partial<ServiceRecord> = {}) =>
  service(name, { clusterIps: [], headless: true, ...more });
const endpoint = (address: string, more: Partial<EndpointAddress> = {}): EndpointAddress => ({
  address,
  hostname: undefined,
  ready: true,
  ports: [{ ...http, port: 8080 }],
  ...more,
});

const services = [
  service("web"),
  headless("db"),
  headless("empty"),
  headless("all", { publishNotReady: true }),
  service("out", { clusterIps: [], externalName: "www.example.com" }),
];
const endpoints: Record<string, EndpointAddress[]> = {
  db: [endpoint("10.0.1.7", { hostname: "db-0" }), endpoint("10.0.1.8"), endpoint("10.0.1.9", { ready: false })],
  empty: [endpoint("10.0.1.9", { ready: false })],
  all: [endpoint("10.0.1.9", { ready: false })],
};
const view: ClusterView = {
  service: (namespace, name) =>
    services.find((candidate) => candidate.namespace === namespace && candidate.name === name),
  hasNamespace: (name) => name === "shop",
  endpoints: ({ name }) => endpoints[name] ?? [],
  nameOfAddress: (address) => (address === "172.20.1.1" ? "web.shop.svc.cluster.local" : undefined),
};

/** One line: the answers as `TYPE data`, or the kind of absence. */
function brief(answer: ZoneAnswer | undefined): string {
  if (!answer) return "forward";
  if (answer.kind === "no-name" || answer.kind === "no-data") return answer.kind;
  const text = answer.answers.map((record) => {
    if (record.type === "SRV") return `SRV ${record.data.weight} ${record.data.port} ${record.data.target}`;
    return `${record.type} ${"data" in record ? String(record.data) : ""}`;
  });
  return answer.kind === "alias"
    ? `${text.join(", ")} then ${answer.follow.type} ${answer.follow.name}`
    : text.join(", ");
}

const cases: readonly [string, string, string][] = [
  ["web.shop.svc.cluster.local", "A", "A 172.20.1.1"],
  ["WEB.shop.svc.cluster.local", "A", "A 172.20.1.1"],
  ["web.shop.svc.cluster.local", "AAAA", "no-data"],
  ["web.shop.svc.cluster.local", "SRV", "SRV 100 80 web.shop.svc.cluster.local"],
  ["_http._tcp.web.shop.svc.cluster.local", "SRV", "SRV 100 80 web.shop.svc.cluster.local"],
  ["_http._tcp.web.shop.svc.cluster.local", "A", "no-data"],
  ["_dns._tcp.web.shop.svc.cluster.local", "SRV", "no-name"],
  ["none.shop.svc.cluster.local", "A", "no-name"],
  ["web.other.svc.cluster.local", "A", "no-name"],
  ["x.web.shop.svc.cluster.local", "A", "no-name"],
  ["db.shop.svc.cluster.local", "A", "A 10.0.1.7, A 10.0.1.8"],
  ["db-0.db.shop.svc.cluster.local", "A", "A 10.0.1.7"],
  ["10-0-1-8.db.shop.svc.cluster.local", "A", "A 10.0.1.8"],
  ["10-0-1-9.db.shop.svc.cluster.local", "A", "no-name"],
  [
    "_http._tcp.db.shop.svc.cluster.local",
    "SRV",
    "SRV 50 8080 db-0.db.shop.svc.cluster.local, SRV 50 8080 10-0-1-8.db.shop.svc.cluster.local",
  ],
  ["empty.shop.svc.cluster.local", "A", "no-name"],
  ["all.shop.svc.cluster.local", "A", "A 10.0.1.9"],
  ["out.shop.svc.cluster.local", "A", "CNAME www.example.com then A www.example.com"],
  ["out.shop.svc.cluster.local", "AAAA", "CNAME www.example.com then AAAA www.example.com"],
  ["out.shop.svc.cluster.local", "CNAME", "CNAME www.example.com"],
  ["out.shop.svc.cluster.local", "MX", "no-data"],
  ["svc.cluster.local", "A", "no-data"],
  ["shop.svc.cluster.local", "A", "no-data"],
  ["other.svc.cluster.local", "A", "no-name"],
  ["cluster.local", "A", "no-data"],
  ["dns-version.cluster.local", "TXT", "TXT 1.1.0"],
  ["10-0-1-7.shop.pod.cluster.local", "A", "A 10.0.1.7"],
  ["10-0-1-700.shop.pod.cluster.local", "A", "no-name"],
  ["fd00--7.shop.pod.cluster.local", "AAAA", "AAAA fd00::7"],
  ["10-0-1-7.other.pod.cluster.local", "A", "no-name"],
  ["bogus.cluster.local", "A", "no-name"],
];
for (const [name, type, expected] of cases) {
  test(`answerZone() ${type} ${name} is ${expected}`, () => {
    assert.equal(brief(answerZone({ name, type }, zone, view)), expected);
  });
}

test("answerZone() gives pod names only when the Corefile says so", () => {
  assert.equal(
    brief(
      answerZone({ name: "10-0-1-7.shop.pod.cluster.local", type: "A" }, { ...zone, podRecords: "disabled" }, view),
    ),
    "no-name",
  );
});

test("answerReverse() knows cluster addresses and leaves others to the forwarder", () => {
  assert.equal(
    brief(answerReverse({ name: "1.1.20.172.in-addr.arpa", type: "PTR" }, zone, view)),
    "PTR web.shop.svc.cluster.local",
  );
  assert.equal(brief(answerReverse({ name: "9.9.9.9.in-addr.arpa", type: "PTR" }, zone, view)), "forward");
});
