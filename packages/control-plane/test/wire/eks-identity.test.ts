import assert from "node:assert/strict";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { createAuthority, issueLeaf } from "@underlay/pki/authority";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { run, startTestServer, until, type TestServer } from "./api-server.ts";

const host = "sts.us-west-2.amazonaws.com";
const account = "111122223333";
let folder = "";
let cluster: TestServer;
let sts: Server;
const asked: { host: string | undefined; cluster: string | undefined }[] = [];
/** Who the presigned URL's signature stands for. */
const callers: Record<string, string> = {
  admin: `arn:aws:sts::${account}:assumed-role/Admin/alice`,
  node: `arn:aws:sts::${account}:assumed-role/NodeRole/i-0123456789abcdef0`,
  stranger: `arn:aws:sts::${account}:assumed-role/Other/bob`,
  viewer: `arn:aws:iam::${account}:user/team/viewer`,
};

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "eks-identity-"));
  const authority = await createAuthority("cluster-ca");
  writeFileSync(join(folder, "ca.crt"), authority.cert);
  writeFileSync(join(folder, "ca.key"), authority.key);
  const leaf = await issueLeaf(authority, { commonName: host, names: [host], usage: "server" });
  sts = createServer(leaf, (request, response) => {
    asked.push({ host: request.headers.host, cluster: request.headers["x-k8s-aws-id"] as string });
    const arn = callers[new URL(request.url!, `https://${host}`).searchParams.get("X-Amz-Signature") ?? ""];
    if (arn === undefined) return void response.writeHead(403).end("<ErrorResponse/>");
    response.end(
      JSON.stringify({
        GetCallerIdentityResponse: { GetCallerIdentityResult: { Account: account, Arn: arn, UserId: "AROAX:session" } },
      }),
    );
  });
  await new Promise<void>((resolve) => sts.listen(0, "127.0.0.1", resolve));
  mkdirSync(join(folder, "instances/i-0123456789abcdef0"), { recursive: true });
  writeFileSync(
    join(folder, "instances/i-0123456789abcdef0/boot.json"),
    JSON.stringify({ hostname: "ip-10-42-0-5.us-west-2.compute.internal" }),
  );
  const stateDir = join(folder, "eks/demo");
  mkdirSync(stateDir, { recursive: true });
  entries([
    {
      principalArn: `arn:aws:iam::${account}:role/Admin`,
      type: "STANDARD",
      username: "",
      groups: [],
      policies: ["arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"],
    },
    {
      principalArn: `arn:aws:iam::${account}:role/NodeRole`,
      type: "EC2_LINUX",
      username: "system:node:{{EC2PrivateDNSName}}",
      groups: ["system:nodes"],
      policies: [],
    },
    {
      principalArn: `arn:aws:iam::${account}:user/team/viewer`,
      type: "STANDARD",
      policies: [
        {
          policyArn: "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
          accessScope: { type: "namespace", namespaces: ["shop-*"] },
        },
      ],
    },
  ]);
  cluster = await startTestServer({
    stateDir,
    clusterName: "demo",
    caCertFile: join(folder, "ca.crt"),
    caKeyFile: join(folder, "ca.key"),
    sts: { host, connect: { address: "127.0.0.1", port: (sts.address() as AddressInfo).port } },
    accessEntriesFile: join(folder, "access-entries.json"),
  });
});
after(async () => {
  sts?.close();
  await cluster?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function entries(list: object[]): void {
  const file = join(dirname(join(folder, "x")), "access-entries.json");
  writeFileSync(`${file}.new`, JSON.stringify(list));
  renameSync(`${file}.new`, file);
}

function token(signature: string, change: (url: URL) => void = () => {}): string {
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const url = new URL(
    `https://${host}/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60`,
  );
  url.searchParams.set("X-Amz-Credential", "AKIAX/20260101/us-west-2/sts/aws4_request");
  url.searchParams.set("X-Amz-Date", date);
  url.searchParams.set("X-Amz-SignedHeaders", "host;x-k8s-aws-id");
  url.searchParams.set("X-Amz-Signature", signature);
  change(url);
  return `k8s-aws-v1.${Buffer.from(url.href).toString("base64url")}`;
}

const withToken = (bearer: string, ...args: string[]) =>
  run([
    "kubectl",
    "--kubeconfig=/dev/null",
    `--server=https://127.0.0.1:${cluster.server.port}`,
    "--insecure-skip-tls-verify",
    `--token=${bearer}`,
    ...args,
  ]);

test("an EKS token becomes the user of its access entry, asked of STS once", async () => {
  const bearer = token("admin");
  const whoami = await withToken(bearer, "auth", "whoami", "-o", "json");
  const { userInfo } = JSON.parse(whoami.stdout).status;
  assert.equal(userInfo.username, callers["admin"]);
  assert.deepEqual(userInfo.extra.sessionName, ["alice"]);
  assert.equal((await withToken(bearer, "create", "namespace", "shop-a")).code, 0);
  assert.deepEqual(asked, [{ host, cluster: "demo" }]);
});

test("an instance's role becomes the node of its private DNS name, and does what nodes may", async () => {
  const bearer = token("node");
  const { userInfo } = JSON.parse((await withToken(bearer, "auth", "whoami", "-o", "json")).stdout).status;
  assert.equal(userInfo.username, "system:node:ip-10-42-0-5.us-west-2.compute.internal");
  assert.deepEqual(userInfo.groups, ["system:nodes", "system:bootstrappers", "system:authenticated"]);
  const create = (name: string) =>
    run(
      [
        "kubectl",
        "--kubeconfig=/dev/null",
        `--server=https://127.0.0.1:${cluster.server.port}`,
        "--insecure-skip-tls-verify",
        `--token=${bearer}`,
        "create",
        "--validate=false",
        "-f",
        "-",
      ],
      JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name } }),
    );
  assert.match(
    (await create("other")).stderr,
    /node "ip-10-42-0-5.us-west-2.compute.internal" is not allowed to modify node "other"/,
  );
  assert.equal((await create("ip-10-42-0-5.us-west-2.compute.internal")).code, 0);
  assert.equal(
    await cluster.ok([
      "get",
      "node",
      "ip-10-42-0-5.us-west-2.compute.internal",
      "-o",
      "jsonpath={.spec.taints[0].key}",
    ]),
    "node.kubernetes.io/not-ready",
  );

  await cluster.ok(["create", "secret", "generic", "used", "--from-literal=k=v", "-n", "shop-a"]);
  await cluster.ok(["create", "secret", "generic", "unused", "--from-literal=k=v", "-n", "shop-a"]);
  await until(
    "the default service account",
    async () => (await cluster.kubectl(["get", "serviceaccount", "default", "-n", "shop-a"])).code === 0 || undefined,
  );
  await cluster.ok(
    ["create", "-f", "-"],
    JSON.stringify({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "shop-a" },
      spec: {
        nodeName: "ip-10-42-0-5.us-west-2.compute.internal",
        containers: [{ name: "c", image: "i", envFrom: [{ secretRef: { name: "used" } }] }],
      },
    }),
  );
  assert.equal((await withToken(bearer, "get", "secret", "used", "-n", "shop-a")).code, 0);
  const unused = await withToken(bearer, "get", "secret", "unused", "-n", "shop-a");
  assert.match(
    unused.stderr,
    /no relationship found between node 'ip-10-42-0-5.us-west-2.compute.internal' and this object/,
  );
});

test("a scoped access policy holds in its namespaces only", async () => {
  const bearer = token("viewer");
  assert.equal((await withToken(bearer, "get", "pods", "-n", "shop-a")).code, 0);
  assert.equal((await withToken(bearer, "get", "secrets", "-n", "shop-a")).code, 1);
  assert.match(
    (await withToken(bearer, "get", "pods", "-n", "default")).stderr,
    new RegExp(`User "arn:aws:iam::${account}:user/team/viewer" cannot list resource "pods"`),
  );
});

test("tokens that are not exactly a signed GetCallerIdentity for this cluster are refused", async () => {
  const bad: Record<string, string> = {
    "no entry": token("stranger"),
    "bad signature": token("forged"),
    "another host": token("admin", (url) => (url.host = "evil.example")),
    "another action": token("admin", (url) => url.searchParams.set("Action", "AssumeRole")),
    "cluster not signed": token("admin", (url) => url.searchParams.set("X-Amz-SignedHeaders", "host")),
    expired: token("admin", (url) => url.searchParams.set("X-Amz-Date", "20200101T000000Z")),
    "extra parameter": token("admin", (url) => url.searchParams.set("Other", "1")),
    garbage: "k8s-aws-v1.%%%",
  };
  const before = asked.length;
  for (const [what, bearer] of Object.entries(bad)) {
    const ran = await withToken(bearer, "get", "--raw", "/api/v1/namespaces");
    assert.match(ran.stderr, /must be logged in|Unauthorized/, what);
  }
  // Only the first two were worth asking STS about.
  assert.ok(asked.length - before <= 4, `${asked.length - before} calls`);
});
