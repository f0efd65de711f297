import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseDuration, parseHostPort, readSettings } from "./settings.ts";

test("flags override the configuration file, as EKS passes them", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "ul-t-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const config = join(dir, "config");
  writeFileSync(
    config,
    [
      "apiVersion: kubeproxy.config.k8s.io/v1alpha1",
      "kind: KubeProxyConfiguration",
      "clientConnection:",
      "  kubeconfig: /var/lib/kube-proxy/kubeconfig",
      'clusterCIDR: ""',
      "mode: iptables",
      "metricsBindAddress: 0.0.0.0:10249",
      'healthzBindAddress: "[::]:10256"',
      "hostnameOverride: other",
      "conntrack: { tcpEstablishedTimeout: 12h0m0s }",
      "oomScoreAdj: -998",
    ].join("\n"),
  );
  assert.deepEqual(readSettings(["--v=2", `--config=${config}`, "--hostname-override=IP-10-0-0-5.ec2.internal"]), {
    kubeconfig: "/var/lib/kube-proxy/kubeconfig",
    nodeName: "ip-10-0-0-5.ec2.internal",
    podCidrs: [],
    nodePortAddresses: [],
    healthz: { host: "::", port: 10256 },
    metrics: { host: "0.0.0.0", port: 10249 },
    conntrack: { tcpEstablishedSeconds: 43_200, tcpCloseWaitSeconds: 3600 },
    cleanup: false,
  });
  assert.equal(readSettings([`--config=${config}`]).nodeName, "other");
});

test("what cannot be read is refused", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "ul-t-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const config = join(dir, "config");
  writeFileSync(config, "kind: Deployment\n");
  assert.throws(
    () => readSettings([`--config=${config}`]),
    /its kind is Deployment; hint: it must be KubeProxyConfiguration/,
  );
  assert.throws(() => readSettings(["--no-such-flag=1"]), /no-such-flag/);
  assert.throws(() => parseHostPort("a:b:c", { host: "", port: 0 }), /as host:port/);
});

test("addresses and durations", () => {
  const usual = { host: "0.0.0.0", port: 10256 };
  assert.deepEqual(parseHostPort("", usual), usual);
  assert.deepEqual(parseHostPort(":99", usual), { host: "0.0.0.0", port: 99 });
  assert.deepEqual(parseHostPort("10.0.0.1", usual), { host: "10.0.0.1", port: 10256 });
  assert.equal(parseDuration("1h30m"), 5400);
  assert.equal(parseDuration("0s"), undefined);
});
