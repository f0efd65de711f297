import assert from "node:assert/strict";
import { test } from "node:test";
import type { Container, Pod, Service } from "@underlay/kube/objects";
import { ConfigError, containerEnv, expand, serviceLinks, type EnvSources } from "./env.ts";

const known = (name: string) => ({ A: "1", EMPTY: "" })[name];
for (const [text, expanded] of [
  ["x-$(A)-y", "x-1-y"],
  ["$(EMPTY)!", "!"],
  ["$(NOPE)", "$(NOPE)"],
  ["$$(A)", "$(A)"],
  ["$$$(A)", "$1"],
  ["$A ${A}", "$A ${A}"],
  ["$(A", "$(A"],
] as const) {
  test(`expand() turns ${text} into ${expanded}`, () => assert.equal(expand(text, known), expanded));
}

const service = (
  name: string,
  namespace: string,
  clusterIP: string,
  ports: { port: number; name?: string }[],
): Service => ({ metadata: { name, namespace }, spec: { clusterIP, ports } }) as Service;

test("serviceLinks() writes docker-style variables, and none for headless services", () => {
  const env = serviceLinks([
    service("redis-master", "shop", "172.20.1.2", [{ port: 6379, name: "db" }]),
    service("headless", "shop", "None", [{ port: 1 }]),
  ]);
  assert.deepEqual(Object.fromEntries(env), {
    REDIS_MASTER_SERVICE_HOST: "172.20.1.2",
    REDIS_MASTER_SERVICE_PORT: "6379",
    REDIS_MASTER_SERVICE_PORT_DB: "6379",
    REDIS_MASTER_PORT: "tcp://172.20.1.2:6379",
    REDIS_MASTER_PORT_6379_TCP: "tcp://172.20.1.2:6379",
    REDIS_MASTER_PORT_6379_TCP_PROTO: "tcp",
    REDIS_MASTER_PORT_6379_TCP_PORT: "6379",
    REDIS_MASTER_PORT_6379_TCP_ADDR: "172.20.1.2",
  });
});

function sources(container: Partial<Container>, more: Partial<EnvSources> = {}): EnvSources {
  return {
    pod: {
      metadata: { name: "web", namespace: "shop", uid: "u", labels: { app: "x" } },
      spec: { containers: [], enableServiceLinks: false },
    } as unknown as Pod,
    container: { name: "c", ...container } as Container,
    imageEnv: { FROM_IMAGE: "1", A: "image" },
    podIps: ["10.0.0.9"],
    hostIp: "10.0.0.1",
    hostname: "web",
    services: [],
    configMap: (name) => (name === "cm" ? { metadata: {}, data: { A: "map", k: "v" } } : undefined),
    secret: (name) =>
      name === "s" ? { metadata: {}, data: { p: Buffer.from("pass").toString("base64") } } : undefined,
    capacity: { cpu: "2", memory: "8Gi" },
    ...more,
  };
}
const asObject = (entries: string[]) =>
  Object.fromEntries(entries.map((e) => [e.slice(0, e.indexOf("=")), e.slice(e.indexOf("=") + 1)]));

test("containerEnv(): env wins over envFrom, envFrom over the image, and earlier names can be used in later ones", () => {
  const env = asObject(
    containerEnv(
      sources({
        envFrom: [{ configMapRef: { name: "cm" } }, { prefix: "S_", secretRef: { name: "s" } }],
        env: [
          { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
          { name: "URL", value: "http://$(IP):$(k)/$(LATER)" },
          { name: "LATER", value: "x" },
          { name: "LABEL", valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
          { name: "MILLI", valueFrom: { resourceFieldRef: { resource: "limits.cpu", divisor: "1m" } } },
        ],
        resources: { limits: { cpu: "250m" } },
      }),
    ),
  );
  assert.equal(env["A"], "map");
  assert.equal(env["FROM_IMAGE"], "1");
  assert.equal(env["S_p"], "pass");
  assert.equal(env["URL"], "http://10.0.0.9:v/$(LATER)");
  assert.equal(env["LABEL"], "x");
  assert.equal(env["MILLI"], "250");
  assert.equal(env["HOSTNAME"], "web");
});

test("containerEnv() refuses missing references by name, unless they are optional", () => {
  const ref = (optional: boolean) =>
    sources({ env: [{ name: "X", valueFrom: { configMapKeyRef: { name: "nope", key: "k", optional } } }] });
  assert.throws(() => containerEnv(ref(false)), new ConfigError('configmap "nope" not found'));
  assert.equal(asObject(containerEnv(ref(true)))["X"], undefined);
  const missingKey = sources({ env: [{ name: "X", valueFrom: { secretKeyRef: { name: "s", key: "zz" } } }] });
  assert.throws(() => containerEnv(missingKey), new ConfigError("couldn't find key zz in Secret shop/s"));
});
