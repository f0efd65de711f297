/** What listens inside the fabric, asked by foreign programs: curl and dig from instances and from the internet. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { createAuthority } from "@underlay/pki/authority";
import { netnsPath } from "@underlay/kernel/netns";
import { openListeners } from "../../src/fabric/listeners.ts";
import { instanceNetns, internetNetns, routerNetns } from "../../src/fabric/places.ts";
import type { CloudView } from "../../src/fabric/seam.ts";
import { addInstance, addInternet, addVpc, copy, emptyState, run, withFabric, type State } from "./world.ts";

const credentials = {
  accessKeyId: "ASIA1",
  secretAccessKey: "s",
  sessionToken: "t",
  lastUpdated: "2026-01-01T00:00:00Z",
  expiration: "2026-01-01T06:00:00Z",
};

/** Two VPCs with the same addresses, so that an answer shows which of them was asked from. */
function world(clusterId: string): { state: State; node: string; twin: string } {
  const state = emptyState(clusterId);
  for (const [vpcId, elastic] of [
    ["vpc-1", "203.0.113.9"],
    ["vpc-2", "203.0.113.10"],
  ] as const) {
    addVpc(state, vpcId, "10.7.0.0/16");
    addInternet(state, vpcId, "10.7.1.0/24", "10.7.2.0/24", elastic);
  }
  const role = { name: "node-role", profileArn: "arn:aws:iam::111122223333:instance-profile/p", profileId: "AIPA1" };
  const node = addInstance(state, "i-node", "subnet-vpc-1-2", {
    host: 20,
    secondary: [21],
    prefixes: ["10.7.2.48/28"],
    userData: Buffer.from("hello ÿ", "latin1").toString("base64"),
    role,
  });
  const twin = addInstance(state, "i-twin", "subnet-vpc-2-2", {
    host: 20,
    metadataOptions: {
      httpTokens: "optional",
      httpPutResponseHopLimit: 1,
      httpEndpoint: "enabled",
      instanceMetadataTags: "disabled",
    },
  });
  addInstance(state, "i-closed", "subnet-vpc-2-2", {
    host: 30,
    metadataOptions: {
      httpTokens: "optional",
      httpPutResponseHopLimit: 1,
      httpEndpoint: "disabled",
      instanceMetadataTags: "disabled",
    },
  });
  state.clusters.push({
    name: "demo",
    vpcId: "vpc-1",
    eniIds: [],
    xeniAddresses: ["10.7.1.100", "10.7.2.100"],
    publicAddress: "198.51.100.33",
    endpointName: "abc.gr7.us-west-2.eks.amazonaws.com",
    endpointPublicAccess: true,
    endpointPrivateAccess: true,
    publicAccessCidrs: ["0.0.0.0/0"],
    serviceCidr: "172.20.0.0/16",
  });
  return { state, node, twin };
}

async function withListeners(
  work: (o: {
    state: State;
    node: string;
    twin: string;
    internet: string;
    caFile: string;
    set(state: State): Promise<void>;
    audit(): Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "underlay-listeners-"));
  try {
    await withFabric(async (fabric, clusterId) => {
      const { state, node, twin } = world(clusterId);
      let current = state;
      const caCertFile = join(directory, "ca.crt");
      const caKeyFile = join(directory, "ca.key");
      const authority = await createAuthority("test");
      writeFileSync(caCertFile, authority.cert);
      writeFileSync(caKeyFile, authority.key);
      const view: CloudView = {
        state: () => current,
        issueRoleCredentials: (instanceId) => (instanceId === "i-node" ? credentials : undefined),
        handleAwsRequest: (request, response) =>
          void response.end(`aws for ${request.headers.host} from ${request.socket.remoteAddress}`),
        onChange: () => () => {},
      };
      await fabric.apply(state, "everything");
      const listeners = await openListeners({
        clusterId,
        stateDir: directory,
        region: "us-west-2",
        caCertFile,
        caKeyFile,
        fabric,
        view,
      });
      try {
        const set = async (next: State): Promise<void> => {
          current = next;
          await fabric.apply(next, "everything");
        };
        await work({
          state,
          node,
          twin,
          internet: internetNetns(clusterId),
          caFile: caCertFile,
          set,
          audit: () => fabric.audit(),
        });
      } finally {
        await listeners.close();
      }
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Asynchronously, since the servers asked live in this process. */
function ask(netns: string, ...argv: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("nsenter", [`--net=${netnsPath(netns)}`, ...argv]);
    const chunks: Buffer[] = [];
    child.stdout.on("data", (data: Buffer) => chunks.push(data));
    child.stderr.on("data", (data: Buffer) => chunks.push(data));
    child.on("error", reject);
    child.on("close", () => resolve(Buffer.concat(chunks).toString("latin1").trim()));
  });
}

const imds = "http://169.254.169.254";
const curl = (netns: string, ...rest: string[]): Promise<string> => ask(netns, "curl", "-s", "-m", "3", ...rest);
const status = (netns: string, ...rest: string[]): Promise<string> =>
  curl(netns, "-o", "/dev/null", "-w", "%{http_code}", ...rest);
const tokenOf = (netns: string, ttl = "60"): Promise<string> =>
  curl(netns, "-X", "PUT", "-H", `X-aws-ec2-metadata-token-ttl-seconds: ${ttl}`, `${imds}/latest/api/token`);

test("IMDS tells each instance about itself, by version 2 tokens", async () => {
  await withListeners(async ({ node, twin }) => {
    assert.equal(await status(node, `${imds}/latest/meta-data/`), "401");
    assert.equal(
      await curl(twin, `${imds}/latest/meta-data/instance-id`),
      "i-twin",
      "version 1 where tokens are optional",
    );
    const token = await tokenOf(node);
    assert.match(token, /^[\w-]{40,}$/);
    const get = (path: string): Promise<string> =>
      curl(node, "-H", `X-aws-ec2-metadata-token: ${token}`, `${imds}${path}`);
    const code = (path: string): Promise<string> =>
      status(node, "-H", `X-aws-ec2-metadata-token: ${token}`, `${imds}${path}`);
    assert.equal(await get("/latest/meta-data/instance-id"), "i-node");
    assert.equal(await get("/latest/meta-data/instance-id/"), "i-node");
    assert.equal(await get("/latest/meta-data/local-ipv4"), "10.7.2.20");
    assert.match(await get("/latest/meta-data/"), /^ami-id\n[^]*\nnetwork\/\nplacement\/\n/);
    const mac = await get("/latest/meta-data/mac");
    assert.equal(await get("/latest/meta-data/network/interfaces/macs/"), `${mac}/`);
    const card = `/latest/meta-data/network/interfaces/macs/${mac}`;
    assert.equal(await get(`${card}/local-ipv4s`), "10.7.2.20\n10.7.2.21");
    assert.equal(await get(`${card}/ipv4-prefix`), "10.7.2.48/28");
    assert.equal(await get(`${card}/subnet-ipv4-cidr-block`), "10.7.2.0/24");
    assert.equal(await get(`${card}/vpc-ipv4-cidr-blocks`), "10.7.0.0/16");
    assert.equal(await get(`${card}/security-group-ids`), "sg-vpc-1");
    assert.equal(await code(`${card}/ipv6-prefix`), "404");
    assert.equal(await code("/latest/meta-data/nothing"), "404");
    assert.equal(await get("/latest/user-data"), "hello ÿ");
    assert.equal(await get("/latest/meta-data/iam/security-credentials/"), "node-role");
    assert.equal(JSON.parse(await get("/latest/meta-data/iam/security-credentials/node-role")).Token, "t");
    assert.equal(JSON.parse(await get("/latest/dynamic/instance-identity/document")).privateIp, "10.7.2.20");
    assert.equal(
      await status(twin, "-H", `X-aws-ec2-metadata-token: ${token}`, `${imds}/latest/meta-data/`),
      "401",
      "another instance's token",
    );
  });
});

test("IMDS refuses as AWS does", async () => {
  await withListeners(async ({ node, state }) => {
    assert.match(
      await status(node, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 0", `${imds}/latest/api/token`),
      /400/,
    );
    assert.equal(await status(node, "-X", "PUT", `${imds}/latest/api/token`), "400");
    assert.equal(
      await status(node, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 21601", `${imds}/latest/api/token`),
      "400",
    );
    assert.equal(
      await status(
        node,
        "-X",
        "PUT",
        "-H",
        "X-aws-ec2-metadata-token-ttl-seconds: 60",
        "-H",
        "X-Forwarded-For: 1.2.3.4",
        `${imds}/latest/api/token`,
      ),
      "403",
    );
    assert.equal(await status(node, "-X", "POST", `${imds}/latest/api/token`), "405");
    assert.equal(await status(instanceNetns(state.clusterId, "i-closed"), `${imds}/latest/meta-data/`), "403");
  });
});

test("the reply to a token request lives as many hops as the instance's limit, other replies live on", async () => {
  await withListeners(async ({ node, twin }) => {
    for (const [netns, limit] of [
      [node, 2],
      [twin, 1],
    ] as const) {
      const capture = spawn("nsenter", [
        `--net=${netnsPath(netns)}`,
        "tcpdump",
        "-n",
        "-l",
        "-v",
        "-i",
        "eth0",
        "src host 169.254.169.254 and greater 100",
      ]);
      let seen = "";
      capture.stdout.on("data", (data: Buffer) => (seen += data.toString()));
      await new Promise<void>((resolve) =>
        capture.stderr.on("data", (data: Buffer) => data.includes("listening on") && resolve()),
      );
      const token = await tokenOf(netns);
      assert.match(token, /^[\w-]{40,}$/, "delivered to the instance itself");
      await curl(netns, "-H", `X-aws-ec2-metadata-token: ${token}`, `${imds}/latest/meta-data/`);
      const deadline = Date.now() + 5000;
      while (!/ttl 64/.test(seen) && Date.now() < deadline)
        await new Promise((resolve) => capture.stdout.once("data", resolve));
      capture.kill();
      assert.match(seen, new RegExp(`ttl ${limit},`));
      assert.match(seen, /ttl 64,/);
    }
  });
});

test("the VPC's resolver answers at base + 2 and at its link-local address", async () => {
  await withListeners(async ({ node, twin }) => {
    for (const server of ["10.7.0.2", "169.254.169.253"]) {
      const dig = (...rest: string[]): Promise<string> =>
        ask(node, "dig", "+time=2", "+tries=1", `@${server}`, ...rest);
      assert.equal(await dig("+short", "ip-10-7-2-20.us-west-2.compute.internal"), "10.7.2.20");
      assert.equal(await dig("+short", "-x", "10.7.2.20"), "ip-10-7-2-20.us-west-2.compute.internal.");
      assert.deepEqual((await dig("+short", "abc.gr7.us-west-2.eks.amazonaws.com")).split("\n").sort(), [
        "10.7.1.100",
        "10.7.2.100",
      ]);
      assert.equal(await dig("+short", "ec2.us-west-2.amazonaws.com"), "198.51.100.10");
      assert.equal(await dig("+short", "+tcp", "WWW.example.com"), "192.0.2.10");
      assert.match(await dig("nothing.example.org"), /status: NXDOMAIN[^]*SOA/);
      assert.match(await dig("AAAA", "www.example.com"), /status: NOERROR[^]*ANSWER: 0[^]*SOA/);
      assert.match(await dig("www.example.com"), /EDNS: version: 0[^]*ANSWER SECTION/);
      assert.doesNotMatch(await dig("+noedns", "www.example.com"), /EDNS/);
    }
    assert.equal(
      await ask(twin, "dig", "+short", "@10.7.0.2", "abc.gr7.us-west-2.eks.amazonaws.com"),
      "198.51.100.33",
      "another VPC sees the public address",
    );
  });
});

test("the internet's hosts answer: AWS endpoints, echo, public DNS", async () => {
  await withListeners(async ({ node, internet, caFile }) => {
    const resolve = (name: string, port: number, address: string): string[] => [
      "--resolve",
      `${name}:${port}:${address}`,
    ];
    const api = "ec2.us-west-2.amazonaws.com";
    assert.equal(
      await curl(node, ...resolve(api, 443, "198.51.100.10"), "--cacert", caFile, `https://${api}/`),
      `aws for ${api} from 203.0.113.9`,
    );
    assert.equal(
      await curl(node, ...resolve(api, 80, "198.51.100.10"), `http://${api}/`),
      `aws for ${api} from 203.0.113.9`,
    );
    const seen = JSON.parse(await curl(node, "-d", "x=1", "http://192.0.2.10/a?b"));
    assert.equal(seen.client.address, "203.0.113.9");
    assert.deepEqual([seen.request.method, seen.request.url, seen.request.body], ["POST", "/a?b", "x=1"]);
    assert.match(
      await curl(
        node,
        ...resolve("www.example.com", 443, "192.0.2.10"),
        "--cacert",
        caFile,
        "https://www.example.com/",
      ),
      /203\.0\.113\.9/,
    );
    assert.equal(
      await ask(internet, "dig", "+short", "@192.0.2.53", "abc.gr7.us-west-2.eks.amazonaws.com"),
      "198.51.100.33",
    );
    assert.equal(await ask(node, "sh", "-c", "echo ping | socat -t 2 - UDP4:192.0.2.10:7"), "ping");
    assert.equal(await ask(node, "sh", "-c", "echo ping | socat -t 2 - TCP4:192.0.2.10:7"), "ping");
    assert.match(
      await ask(internet, "curl", "-s", "-m", "1", "-o", "/dev/null", "-w", "%{http_code}", "http://203.0.113.9/"),
      /000/,
    );
  });
});

test("listeners follow their VPCs and let a removed one's namespace go", async () => {
  await withListeners(async ({ state, node, set }) => {
    const less = copy(state);
    for (const key of [
      "vpcs",
      "subnets",
      "enis",
      "instances",
      "securityGroups",
      "routeTables",
      "internetGateways",
      "natGateways",
    ] as const) {
      (less as Record<string, unknown>)[key] = less[key].filter((one) => one.vpcId !== "vpc-2");
    }
    await set(less);
    assert.equal(await status(node, `${imds}/latest/meta-data/`), "401");
    await set(state);
    const deadline = Date.now() + 5000;
    const twin = instanceNetns(state.clusterId, "i-twin");
    while ((await curl(twin, `${imds}/latest/meta-data/instance-id`)) !== "i-twin")
      assert.ok(Date.now() < deadline, "IMDS is back");
  });
});

test("listeners come back with a router that somebody deleted", async () => {
  await withListeners(async ({ state, node, audit }) => {
    run(node, "ip", "netns", "del", routerNetns(state.clusterId, "vpc-1"));
    await audit();
    const deadline = Date.now() + 5000;
    while ((await status(node, `${imds}/latest/meta-data/`)) !== "401")
      assert.ok(Date.now() < deadline, "IMDS is back");
    assert.equal(await ask(node, "dig", "+short", "+time=2", "@10.7.0.2", "www.example.com"), "192.0.2.10");
  });
});
