/** A node with two pods, a far pod, an outside client and a Service, as namespaces; policies go in as PolicyEndpoints. */
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { createNetns, deleteNetns } from "@underlay/kernel/netns";
import { Nft } from "@underlay/kernel/nft";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { bindUdp, connectTcp, listenTcp } from "@underlay/kernel/sockets";
import { writeSysctls } from "@underlay/kernel/sysctl";
import { hostVethName } from "../../src/agent/names.ts";
import { planNode, type LocalPod, type Mode } from "../../src/agent/plan.ts";
import { PolicyTable, type Applied, type PolicyTableOptions } from "../../src/agent/policy-table.ts";
import type { PolicyEndpoint, PolicyEndpointSpec } from "../../src/api/policy-endpoint.ts";

export const NODE = "10.0.0.5";
export const VIP = "172.20.0.10";
export const PLACES = { a: "10.0.1.10", b: "10.0.1.11", far: "10.0.2.20", outside: "192.0.2.9" } as const;
export type Place = keyof typeof PLACES;
/** Silence is told from an answer by this long a wait; the answer of an open path takes under 5 ms. */
const SILENCE_MS = 300;

let versions = 0;

/** A PolicyEndpoint of namespace shop, of which every call is a new version. */
export function endpoint(
  name: string,
  spec: Omit<PolicyEndpointSpec, "policyRef">,
  subjects: readonly Place[] = [],
): PolicyEndpoint {
  const podSelectorEndpoints = subjects.map((place) => ({
    hostIP: NODE,
    podIP: PLACES[place],
    name: place,
    namespace: "shop",
  }));
  return {
    metadata: { name: `${name}-x`, namespace: "shop", uid: `${name}-x`, resourceVersion: `${++versions}` },
    spec: { policyRef: { namespace: "shop", name }, podSelectorEndpoints, ...spec },
  };
}

export class PolicyWorld {
  readonly #run = `ul-t${randomBytes(3).toString("hex")}`;
  readonly #t: TestContext;
  readonly #options: PolicyTableOptions;
  table: PolicyTable;

  constructor(t: TestContext, options: Omit<PolicyTableOptions, "netns"> = {}) {
    this.#t = t;
    for (const what of ["node", ...Object.keys(PLACES)]) {
      createNetns(this.netns(what));
      t.after(() => deleteNetns(this.netns(what)));
    }
    this.#wire();
    this.#options = { ...options, netns: this.netns("node") };
    this.table = new PolicyTable(this.#options);
    t.after(() => this.table.close());
    using nft = new Disposable(Nft.open(this.netns("node")));
    nft.it.run(`table ip svc {
chain pre { type nat hook prerouting priority dstnat;
ip daddr ${VIP} tcp dport 80 dnat to ${PLACES.b}:8080
ip daddr ${VIP} udp dport 80 dnat to ${PLACES.b}:8080
}
chain out { type nat hook output priority -100;
ip daddr ${VIP} tcp dport 80 dnat to ${PLACES.b}:8080
}
chain post { type nat hook postrouting priority srcnat;
ip saddr ${PLACES.b} ip daddr ${PLACES.b} masquerade
}
}`);
  }

  netns(what: string): string {
    return `${this.#run}-${what}`;
  }

  pods(labels: Partial<Record<Place, Record<string, string>>> = {}): LocalPod[] {
    return (["a", "b"] as const).map((name) => ({
      namespace: "shop",
      name,
      labels: labels[name] ?? {},
      addresses: [PLACES[name]],
      hostVeth: hostVethName("eni", "shop", name),
    }));
  }

  enforce(endpoints: readonly PolicyEndpoint[], mode: Mode = "standard", pods = this.pods()): Applied {
    const done = this.table.apply(planNode({ mode, pods, endpoints }, this.table.plan));
    if (done.healed) throw done.healed;
    return done;
  }

  /** The agent dies and another starts: what was in the kernel stays, what was in memory does not. */
  restartAgent(): void {
    this.table.close();
    this.table = new PolicyTable(this.#options);
  }

  /** Echoes, and names itself to whoever connects. */
  serveTcp(place: Place): void {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      // The other end may have been cut off for good.
      this.#t.after(() => socket.destroy());
      socket.write(`${place} sees ${socket.remoteAddress};`);
      socket.pipe(socket);
    });
    server.listen({ fd: listenTcp({ netns: this.netns(place), address: PLACES[place], port: 8080 }) });
    this.#t.after(() => server.close());
  }

  serveUdp(place: Place): void {
    const server = createSocket("udp4");
    server.on("message", (_, from) => server.send(`${place} sees ${from.address}`, from.port, from.address));
    server.bind({ fd: bindUdp({ netns: this.netns(place), address: PLACES[place], port: 8080 }) });
    this.#t.after(() => server.close());
  }

  /** What a TCP connection says first: the greeting, an error's code, or 'silence'. */
  async ask(from: Place | "node", to: string, port = 8080): Promise<string> {
    const socket = connectTcp({ netns: this.netns(from), address: to, port });
    try {
      const [data] = await once(socket, "data", { signal: AbortSignal.timeout(SILENCE_MS) });
      return String(data);
    } catch (error) {
      const { code, name } = error as NodeJS.ErrnoException;
      return name === "AbortError" ? "silence" : (code ?? name);
    } finally {
      socket.destroy();
    }
  }

  async askUdp(from: Place, to: string, port = 8080): Promise<string> {
    const client = createSocket("udp4");
    client.bind({ fd: bindUdp({ netns: this.netns(from), address: PLACES[from], port: 0 }) });
    try {
      const answer = once(client, "message", { signal: AbortSignal.timeout(SILENCE_MS) });
      client.send("?", port, to);
      return await answer.then(
        ([data]) => String(data),
        () => "silence",
      );
    } finally {
      client.close();
    }
  }

  /** A connection that stays open; `say` tells whether its echo came back. */
  async connect(
    from: Place,
    to: string,
    port = 8080,
  ): Promise<{ say(text: string): Promise<boolean>; socket: Socket }> {
    const socket = connectTcp({ netns: this.netns(from), address: to, port });
    this.#t.after(() => socket.destroy());
    await once(socket, "data");
    socket.on("error", () => {});
    let heard = "";
    socket.on("data", (data) => (heard += String(data)));
    return {
      socket,
      async say(text) {
        heard = "";
        socket.write(text);
        const deadline = Date.now() + SILENCE_MS;
        while (!heard.includes(text) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
        return heard.includes(text);
      },
    };
  }

  #wire(): void {
    const node = this.netns("node");
    writeSysctls(node, {
      "net.ipv4.ip_forward": 1,
      "net.ipv4.conf.all.rp_filter": 0,
      "net.ipv4.conf.default.rp_filter": 0,
    });
    using rtnl = Rtnl.open(node);
    rtnl.apply({ do: "set-link", name: "lo", up: true }, { do: "add-address", address: `${NODE}/32`, dev: "lo" });
    for (const [index, [place, address]] of Object.entries(PLACES).entries()) {
      const here = `02:00:00:00:00:1${index}`;
      const there = `02:00:00:00:00:2${index}`;
      const isPod = place === "a" || place === "b";
      const dev = isPod ? hostVethName("eni", "shop", place) : `eth${index}`;
      rtnl.apply(
        {
          do: "add-veth",
          name: dev,
          mac: here,
          mtu: 9001,
          up: true,
          peer: { name: "eth0", mac: there, mtu: 9001, netns: this.netns(place) },
        },
        { do: "add-neighbour", to: address, mac: there, dev },
        { do: "add-route", to: `${address}/32`, dev, src: NODE },
      );
      using inside = Rtnl.open(this.netns(place));
      inside.apply(
        { do: "set-link", name: "lo", up: true },
        { do: "set-link", name: "eth0", up: true },
        { do: "add-address", address: `${address}/32`, dev: "eth0" },
        { do: "add-neighbour", to: "169.254.1.1", mac: here, dev: "eth0" },
        { do: "add-route", to: "169.254.1.1/32", dev: "eth0", scope: "link" },
        { do: "add-route", to: "default", via: "169.254.1.1", dev: "eth0" },
      );
      rtnl.settle(dev);
    }
    rtnl.apply({ do: "add-route", to: "default", via: PLACES.outside, dev: "eth3", src: NODE, onlink: true });
  }
}

class Disposable<T extends { close(): void }> {
  readonly it: T;
  constructor(it: T) {
    this.it = it;
  }
  [Symbol.dispose](): void {
    this.it.close();
  }
}
