import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { findNodeConfig, settingsFrom } from "./node-config.ts";

const config = `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: { name: shop, apiServerEndpoint: https://abc.eks.amazonaws.com, certificateAuthority: ${Buffer.from("CA").toString("base64")}, cidr: 172.20.0.0/16 }
  kubelet:
    config: { maxPods: 17 }
    flags: ["--node-labels=eks.amazonaws.com/nodegroup=default,x=y", "--register-with-taints=a=b:NoSchedule,c:NoExecute"]
`;
const identity = {
  instanceId: "i-1",
  instanceType: "m5.large",
  region: "us-west-2",
  zone: "us-west-2a",
  privateIp: "10.42.1.5",
  privateDnsName: "ip-10-42-1-5.us-west-2.compute.internal",
};

test("settings come from user data and identity", () => {
  const settings = settingsFrom(findNodeConfig(config, parse), identity);
  assert.equal(settings.nodeName, "ip-10-42-1-5.us-west-2.compute.internal");
  assert.equal(settings.maxPods, 17);
  assert.equal(settings.clusterCa, "CA");
  assert.deepEqual(settings.clusterDns, ["172.20.0.10"]);
  assert.deepEqual(settings.labels, { "eks.amazonaws.com/nodegroup": "default", x: "y" });
  assert.deepEqual(settings.taints, [
    { key: "a", effect: "NoSchedule", value: "b" },
    { key: "c", effect: "NoExecute" },
  ]);
});

test("a MIME message may hold the NodeConfig among other parts", () => {
  const mime = [
    "MIME-Version: 1.0",
    'Content-Type: multipart/mixed; boundary="//"',
    "",
    "--//",
    "Content-Type: text/x-shellscript",
    "",
    "#!/bin/sh",
    "--//",
    "Content-Type: application/node.eks.aws",
    "",
    config,
    "--//--",
  ].join("\n");
  assert.equal(findNodeConfig(mime, parse).spec.cluster.name, "shop");
});

test("user data without a NodeConfig is refused", () => {
  assert.throws(() => findNodeConfig("#!/bin/sh\necho hi\n", parse), /no NodeConfig/);
});
