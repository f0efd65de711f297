import assert from "node:assert/strict";
import { X509Certificate, createPrivateKey } from "node:crypto";
import { test } from "node:test";
import { createAuthority, createRequest, issueLeaf, signRequest } from "./authority.ts";

test("issueLeaf() makes a certificate that its authority verifies and that names host and address", async () => {
  const authority = await createAuthority("underlay test");
  const leaf = await issueLeaf(authority, {
    commonName: "kube",
    organizations: ["system:masters", "b"],
    names: ["kubernetes.default.svc", "10.0.0.1"],
    usage: "both",
  });
  const cert = new X509Certificate(leaf.cert);
  assert.equal(cert.verify(new X509Certificate(authority.cert).publicKey), true);
  assert.equal(cert.checkHost("kubernetes.default.svc"), "kubernetes.default.svc");
  assert.equal(cert.checkIP("10.0.0.1"), "10.0.0.1");
  assert.equal(cert.checkPrivateKey(createPrivateKey(leaf.key)), true);
  assert.match(cert.subject, /O=system:masters\nO=b\nCN=kube/);
});

test("signRequest() keeps the subject and names of the request", async () => {
  const authority = await createAuthority("underlay test");
  const { csr, key } = await createRequest({
    commonName: "system:node:n1",
    organizations: ["system:nodes"],
    names: ["n1"],
  });
  const cert = new X509Certificate(await signRequest(authority, csr, "server"));
  assert.match(cert.subject, /O=system:nodes\nCN=system:node:n1/);
  assert.equal(cert.checkHost("n1"), "n1");
  assert.equal(cert.checkPrivateKey(createPrivateKey(key)), true);
});
