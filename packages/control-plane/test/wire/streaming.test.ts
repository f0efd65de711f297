import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer, type AddressInfo, type Server } from "node:net";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { kubectlProgram, run, startTestServer, until, type TestServer } from "./api-server.ts";
import { KubeletStandIn } from "./kubelet-stand-in.ts";
import type { Stored } from "../../src/apiserver/stored.ts";

let cluster: TestServer;
let kubelet: KubeletStandIn;

before(async () => {
  cluster = await startTestServer();
  kubelet = await KubeletStandIn.start(cluster.authority);
  await cluster.ok(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: "n1" } }));
  await cluster.ok(
    ["patch", "node", "n1", "--subresource=status", "--type=merge", "-p"].concat(
      JSON.stringify({
        status: {
          addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
          daemonEndpoints: { kubeletEndpoint: { Port: kubelet.port } },
        },
      }),
    ),
  );
  await pod("web", { nodeName: "n1", containers: [{ name: "main", image: "x" }] });
  await cluster.ok([
    "patch",
    "pod",
    "web",
    "--subresource=status",
    "--type=merge",
    "-p",
    JSON.stringify({
      status: {
        phase: "Running",
        conditions: [{ type: "Ready", status: "True" }],
        containerStatuses: [
          {
            name: "main",
            image: "x",
            imageID: "",
            ready: true,
            restartCount: 0,
            state: { running: { startedAt: "2026-01-01T00:00:00Z" } },
          },
        ],
      },
    }),
  ]);
  await pod("two", {
    nodeName: "n1",
    containers: [
      { name: "a", image: "x" },
      { name: "waiting", image: "x" },
    ],
  });
  await pod("unbound", { containers: [{ name: "main", image: "x" }] });
});

after(async () => {
  await kubelet?.close();
  await cluster?.[Symbol.asyncDispose]();
});

/** Gives a program a terminal; part of util-linux. */
const terminal = "script";

const pod = (name: string, spec: object) =>
  cluster.ok(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name }, spec }));

for (const [wire, env] of [
  ["WebSocket", "true"],
  ["SPDY", "false"],
] as const) {
  const kubectl = async (args: string[], input?: string) => {
    process.env["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = env;
    process.env["KUBECTL_PORT_FORWARD_WEBSOCKETS"] = env;
    return cluster.kubectl(args, input);
  };

  test(`exec over ${wire} gives output, errors and the exit code`, async () => {
    const ran = await kubectl(["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert.equal(ran.stdout, "out\n");
    assert.match(ran.stderr, /^err\n/);
    assert.match(ran.stderr, /command terminated with exit code 3/);
    assert.equal(ran.code, 3);
  });

  test(`exec -i over ${wire} passes stdin and its end`, async () => {
    const ran = await kubectl(["exec", "-i", "web", "--", "sh", "-c", "cat; echo done"], "hello\n");
    assert.deepEqual([ran.code, ran.stdout], [0, "hello\ndone\n"]);
  });

  test(`attach -i over ${wire} joins the running container`, async () => {
    const ran = await kubectl(["attach", "-i", "web"], "typed\n");
    assert.deepEqual([ran.code, ran.stdout], [0, "attached\ntyped\n"]);
  });

  test(`exec -it over ${wire} tells the terminal's size`, async (t) => {
    if ((await run(["sh", "-c", `command -v ${terminal}`])).code !== 0)
      return t.skip(`needs ${terminal}(1) for a terminal`);
    const command = `stty rows 33 cols 77; ${kubectlProgram} --kubeconfig ${cluster.kubeconfig} exec -it web -- head -c1`;
    const child = spawn(terminal, ["-qec", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
    try {
      let out = "";
      child.stdout.on("data", (chunk) => (out += chunk));
      await until("the size", () => out.includes('resized {"Width":77,"Height":33}') || undefined);
      child.stdin.write("x");
      await until("the end", () => (child.exitCode === null ? undefined : true));
      assert.equal(child.exitCode, 0);
    } finally {
      child.kill();
    }
  });

  test(`cp over ${wire} carries a megabyte unchanged both ways`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "cp-wire-"));
    try {
      const bytes = Buffer.alloc(3_000_000, "0123456789abcdef\n");
      writeFileSync(join(folder, "up"), bytes);
      const up = await kubectl(["cp", join(folder, "up"), `web:${folder}/there`]);
      assert.equal(up.code, 0, up.stderr);
      assert.ok(readFileSync(join(folder, "there")).equals(bytes));
      const down = await kubectl(["cp", `web:${folder}/there`, join(folder, "back")]);
      assert.equal(down.code, 0, down.stderr);
      assert.ok(readFileSync(join(folder, "back")).equals(bytes));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test(`port-forward over ${wire} carries connections and tells refused ones`, async () => {
    const echo = await echoServer();
    const forward = spawn(
      kubectlProgram,
      ["--kubeconfig", cluster.kubeconfig, "port-forward", "pod/web", `:${(echo.address() as AddressInfo).port}`],
      {
        env: { ...process.env, KUBECTL_PORT_FORWARD_WEBSOCKETS: env },
      },
    );
    try {
      let out = "";
      let errors = "";
      forward.stdout.on("data", (chunk) => (out += chunk));
      forward.stderr.on("data", (chunk) => (errors += chunk));
      const port = await until("port-forward to listen", () => /127\.0\.0\.1:(\d+) ->/.exec(out)?.[1]);
      const bodies = await Promise.all([1, 2, 3].map((n) => fetchText(Number(port), `/n${n}`)));
      assert.deepEqual(bodies, ["you asked /n1", "you asked /n2", "you asked /n3"]);
      await new Promise((resolve) => echo.close(resolve));
      await assert.rejects(fetchText(Number(port), "/refused"));
      await until("the refusal", () => errors.includes("error forwarding port") || undefined);
    } finally {
      forward.kill();
      echo.close();
    }
  });
}

function echoServer(): Promise<Server> {
  const server = createServer((socket) => {
    socket.once("data", (data) => {
      const path = data.toString().split(" ")[1];
      const body = `you asked ${path}`;
      socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`);
    });
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

function fetchText(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ port, path, host: "127.0.0.1", agent: false }, (response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => resolve(body));
    }).on("error", reject);
  });
}

test("the API server shows the kubelet its own client certificate and upstream's paths", () => {
  assert.ok(
    kubelet.clients.every((client) => client === "CN=kube-apiserver-kubelet-client,O=system:masters"),
    kubelet.clients[0],
  );
  assert.ok(kubelet.paths.some((path) => path.startsWith("/exec/default/web/main?command=sh")));
});

test("logs gives lines, and logs -f gives those that come later as they come", async () => {
  kubelet.log("one");
  kubelet.log("two");
  assert.equal(await cluster.ok(["logs", "web"]), "one\ntwo\n");
  assert.equal(await cluster.ok(["logs", "web", "--tail=1"]), "two\n");
  const follow = spawn(kubectlProgram, ["--kubeconfig", cluster.kubeconfig, "logs", "-f", "web", "--tail=1"]);
  try {
    let out = "";
    follow.stdout.on("data", (chunk) => (out += chunk));
    await until("the last line", () => out === "two\n" || undefined);
    kubelet.log("three");
    await until("the new line", () => out === "two\nthree\n" || undefined);
  } finally {
    follow.kill();
  }
});

test("streaming tells what cannot work in upstream's words", async () => {
  const cases: [string[], RegExp][] = [
    [["logs", "two", "-c", "waiting"], /container "waiting" in pod "web" is waiting to start: ContainerCreating/],
    [["logs", "two", "-c", "none"], /container none is not valid for pod two/],
    [["logs", "unbound"], /pod unbound does not have a host assigned/],
    [["exec", "unbound", "--", "true"], /pod unbound does not have a host assigned/],
    [["exec", "nobody", "--", "true"], /pods "nobody" not found/],
  ];
  for (const [args, expected] of cases) {
    const ran = await cluster.kubectl(args);
    assert.match(ran.stderr, expected, args.join(" "));
    assert.notEqual(ran.code, 0);
  }
});

test("an unreachable kubelet is told as upstream tells it", async () => {
  await cluster.ok(
    ["create", "-f", "-"],
    JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: "gone" } }),
  );
  await cluster.ok([
    "patch",
    "node",
    "gone",
    "--subresource=status",
    "--type=merge",
    "-p",
    JSON.stringify({
      status: {
        addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
        daemonEndpoints: { kubeletEndpoint: { Port: 1 } },
      },
    }),
  ]);
  await pod("lost", { nodeName: "gone", containers: [{ name: "main", image: "x" }] });
  const exec = await cluster.kubectl(["exec", "lost", "--", "true"]);
  assert.match(exec.stderr, /error dialing backend: dial tcp 127\.0\.0\.1:1: connect: connection refused/);
  const logs = await cluster.kubectl(["logs", "lost"]);
  assert.match(
    logs.stderr,
    /Get "https:\/\/127\.0\.0\.1:1\/containerLogs\/default\/lost\/main": dial tcp 127\.0\.0\.1:1: connect: connection refused/,
  );
});

test("client-node execs and forwards ports with its own WebSockets", async () => {
  const { KubeConfig, Exec, PortForward } = await import("@kubernetes/client-node");
  const { PassThrough } = await import("node:stream");
  const config = new KubeConfig();
  config.loadFromFile(cluster.kubeconfig);
  const stdout = new PassThrough();
  let text = "";
  stdout.on("data", (chunk) => (text += chunk));
  const status = await new Promise<Stored>((resolve, reject) => {
    new Exec(config)
      .exec("default", "web", "main", ["sh", "-c", "echo hi; exit 4"], stdout, null, null, false, resolve)
      .catch(reject);
  });
  assert.equal(status.details.causes[0].message, "4");
  await until("its output", () => text === "hi\n" || undefined);

  const echo = await echoServer();
  try {
    const input = new PassThrough();
    const output = new PassThrough();
    let answer = "";
    output.on("data", (chunk) => (answer += chunk));
    await new PortForward(config).portForward(
      "default",
      "web",
      [(echo.address() as AddressInfo).port],
      output,
      null,
      input,
    );
    input.write("GET /legacy HTTP/1.1\r\n\r\n");
    await until("the echo's answer", () => answer.includes("you asked /legacy") || undefined);
  } finally {
    echo.close();
  }
});

test("the proxy reaches pods, services and kubelets, and says when it does not", async () => {
  const echo = await echoServer();
  const { port } = echo.address() as AddressInfo;
  try {
    await cluster.ok([
      "patch",
      "pod",
      "web",
      "--subresource=status",
      "--type=merge",
      "-p",
      JSON.stringify({ status: { podIP: "127.0.0.1", podIPs: [{ ip: "127.0.0.1" }] } }),
    ]);
    await cluster.ok(
      ["apply", "-f", "-"],
      JSON.stringify({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "echo" },
        spec: { ports: [{ name: "http", port: 80 }] },
      }),
    );
    await cluster.ok(
      ["apply", "-f", "-"],
      JSON.stringify({
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        addressType: "IPv4",
        metadata: { name: "echo-1", labels: { "kubernetes.io/service-name": "echo" } },
        ports: [{ name: "http", port, protocol: "TCP" }],
        endpoints: [{ addresses: ["127.0.0.1"], conditions: { ready: true } }],
      }),
    );
    const raw = (path: string) => cluster.kubectl(["get", "--raw", `/api/v1/${path}`]);
    assert.equal((await raw(`namespaces/default/pods/web:${port}/proxy/a/b?c=d`)).stdout, "you asked /a/b?c=d");
    assert.equal((await raw("namespaces/default/services/echo:http/proxy/x")).stdout, "you asked /x");
    assert.match((await raw("nodes/n1/proxy/containerLogs/default/web/main")).stdout, /one\ntwo\n/);
    assert.match(
      (await raw("namespaces/default/pods/web:1/proxy/")).stderr,
      /error trying to reach service: dial tcp 127\.0\.0\.1:1: connect: connection refused/,
    );
    assert.match((await raw("namespaces/default/services/none/proxy/")).stderr, /service "none" not found/);
  } finally {
    echo.close();
  }
});
