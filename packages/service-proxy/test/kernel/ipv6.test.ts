import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { createNetns, deleteNetns } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { connectTcp, listenTcp } from "@underlay/kernel/sockets";
import type { EndpointSlice, Service } from "@underlay/kube/objects";
import { planService } from "../../src/plan.ts";
import { ServiceTable } from "../../src/service-table.ts";

test("the IPv6 table takes every form of service, and a node reaches an endpoint through it", async (t) => {
  const netns = `ul-t${randomBytes(3).toString("hex")}-six`;
  createNetns(netns);
  t.after(() => deleteNetns(netns));
  using rtnl = Rtnl.open(netns);
  rtnl.apply(
    { do: "set-link", name: "lo", up: true },
    { do: "add-address", address: "fd00::5/128", dev: "lo" },
    { do: "add-address", address: "fd00::10/128", dev: "lo" },
    { do: "add-route", to: "::/0", dev: "lo" },
  );
  const server = createServer((socket) => socket.end("six"));
  server.listen({ fd: listenTcp({ netns, address: "fd00::10", port: 8080 }) });
  t.after(() => server.close());
  const table = new ServiceTable(
    { family: 6, nodeAddresses: ["fd00::5"], podCidrs: ["fd00:1::/64"], serviceCidrs: ["fd12::/108"] },
    netns,
  );
  t.after(() => table.close());
  const slices = [
    {
      metadata: { name: "s" },
      addressType: "IPv6",
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
      endpoints: [{ addresses: ["fd00::10"], nodeName: "n1" }],
    },
  ] as unknown as EndpointSlice[];
  const specs = [
    {},
    { externalTrafficPolicy: "Local", externalIPs: ["fd99::1"] },
    { sessionAffinity: "ClientIP" },
    { internalTrafficPolicy: "Local" },
  ];
  for (const spec of specs) {
    const service = {
      metadata: { namespace: "shop", name: "web" },
      spec: {
        type: "NodePort",
        clusterIP: "fd12::a",
        clusterIPs: ["fd12::a"],
        ports: [{ name: "http", port: 80, nodePort: 30080 }],
        ...spec,
      },
    } as unknown as Service;
    const settings = { family: 6, node: { name: "n1", zone: undefined } } as const;
    const done = table.apply(new Map([["shop/web", planService(service, slices, settings, table.plan("shop/web"))]]));
    assert.equal(done.healed, undefined);
    for (const [address, port] of [
      ["fd12::a", 80],
      ["fd00::5", 30080],
    ] as const) {
      const [data] = await once(connectTcp({ netns, address, port }), "data", { signal: AbortSignal.timeout(1000) });
      assert.equal(String(data), "six", `${JSON.stringify(spec)} [${address}]:${port}`);
    }
  }
});
