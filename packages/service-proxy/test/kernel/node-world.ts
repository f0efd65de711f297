/** A node with pods, a far pod and an outside client, as namespaces; servers that say who they are and who they see. */
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import type { TestContext } from "node:test";
import { createNetns, deleteNetns } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { bindUdp, connectTcp, listenTcp } from "@underlay/kernel/sockets";
import { writeSysctls } from "@underlay/kernel/sysctl";
import type { EndpointSlice, Service } from "@underlay/kube/objects";
import { planService } from "../../src/plan.ts";
import { ServiceTable } from "../../src/service-table.ts";

export const NODE = "10.0.0.5";
export const VIP = "172.20.0.10";
export const EXTERNAL = "198.51.100.77";
export const PLACES = { a: "10.0.1.10", b: "10.0.1.11", far: "10.0.2.20", outside: "10.0.9.9" } as const;
export type Place = keyof typeof PLACES;

export class NodeWorld {
  readonly #run = `ul-t${randomBytes(3).toString("hex")}`;
  readonly #t: TestContext;
  table: ServiceTable;

  constructor(t: TestContext, podCidrs: string[] = []) {
    this.#t = t;
    for (const what of ["node", ...Object.keys(PLACES)]) {
      createNetns(this.netns(what));
      t.after(() => deleteNetns(this.netns(what)));
    }
    this.#wire();
    this.table = this.open(podCidrs);
    t.after(() => this.table.close());
  }

  netns(what: string): string {
    return `${this.#run}-${what}`;
  }

  /** Another process's view of the same node. */
  open(podCidrs: string[] = []): ServiceTable {
    return new ServiceTable(
      { family: 4, nodeAddresses: [NODE], podCidrs, serviceCidrs: ["172.20.0.0/16"] },
      this.netns("node"),
    );
  }

  set(
    service: Service | undefined,
    slices: EndpointSlice[] = [],
    table = this.table,
  ): ReturnType<ServiceTable["apply"]> {
    const key = "shop/web";
    const plan =
      service && planService(service, slices, { family: 4, node: { name: "n1", zone: undefined } }, table.plan(key));
    const done = table.apply(new Map([[key, plan]]));
    if (done.healed) throw done.healed;
    return done;
  }

  /** A TCP server on port 8080 of a place that answers "<place> sees <client address>". */
  serveTcp(place: Place): void {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end(`${place} sees ${socket.remoteAddress}`);
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

  /** What comes back: the answer, the error's code, or 'silence'. */
  async ask(from: Place | "node", to: string, port: number): Promise<string> {
    const socket = connectTcp({ netns: this.netns(from), address: to, port });
    let text = "";
    socket.on("data", (data) => (text += String(data)));
    try {
      await once(socket, "close", { signal: AbortSignal.timeout(700) });
      return text;
    } catch (error) {
      const { code, name } = error as NodeJS.ErrnoException;
      return name === "AbortError" ? "silence" : (code ?? name);
    } finally {
      socket.destroy();
    }
  }

  /** The places that answered in so many tries. */
  async askMany(from: Place | "node", to: string, port: number, tries = 30): Promise<string[]> {
    const answers = await Promise.all(Array.from({ length: tries }, () => this.ask(from, to, port)));
    return [...new Set(answers)].sort();
  }

  udpClient(from: Place): { ask(to: string, port: number): Promise<string> } {
    const client = createSocket("udp4");
    client.bind({ fd: bindUdp({ netns: this.netns(from), address: PLACES[from], port: 0 }) });
    this.#t.after(() => client.close());
    return {
      async ask(to, port) {
        const answer = once(client, "message", { signal: AbortSignal.timeout(700) });
        client.send("?", port, to);
        return answer
          .then(([data]) => String(data))
          .catch((error: NodeJS.ErrnoException) =>
            error.name === "AbortError" ? "silence" : (error.code ?? error.name),
          );
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
      const dev = `eni${index}`;
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
    // For locally made packets the route is looked up before the destination is translated.
    rtnl.apply({ do: "add-route", to: "default", via: PLACES.outside, dev: "eni3", src: NODE, onlink: true });
  }
}

export function service(spec: Record<string, unknown> = {}): Service {
  return {
    metadata: { namespace: "shop", name: "web" },
    spec: {
      type: "NodePort",
      clusterIP: VIP,
      clusterIPs: [VIP],
      ports: [{ name: "http", port: 80, nodePort: 30080, protocol: "TCP" }],
      ...spec,
    },
  } as unknown as Service;
}

type Conditions = { ready?: boolean; serving?: boolean; terminating?: boolean };

/** Endpoints by place; `a` and `b` are on this node. */
export function slicesOf(places: Partial<Record<Place, Conditions>>, protocol = "TCP"): EndpointSlice[] {
  const endpoints = Object.entries(places).map(([place, conditions]) => ({
    addresses: [PLACES[place as Place]],
    conditions,
    nodeName: place === "far" ? "n2" : "n1",
  }));
  return [
    { metadata: { name: "web-1" }, addressType: "IPv4", ports: [{ name: "http", port: 8080, protocol }], endpoints },
  ] as unknown as EndpointSlice[];
}
