import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { createNetns, deleteNetns } from "../../src/netns.ts";
import { bindUdp, boundPort } from "../../src/sockets.ts";

/** Fresh namespaces `ul-t<random>-<what>`, removed after the test. */
export function freshNetns(t: TestContext, ...whats: string[]): string[] {
  const run = randomBytes(3).toString("hex");
  return whats.map((what) => {
    const name = `ul-t${run}-${what}`;
    createNetns(name);
    t.after(() => deleteNetns(name));
    return name;
  });
}

/** Output of a command that looks into a namespace: `ip -n`, `nft` under `ip netns exec`. */
export function ip(netns: string, ...args: string[]): string {
  return execFileSync("ip", ["-n", netns, ...args], { encoding: "utf8" });
}

export function inNetns(netns: string, ...argv: string[]): string {
  return execFileSync("nsenter", [`--net=/run/netns/${netns}`, ...argv], { encoding: "utf8" });
}

// oxlint-disable-next-line typescript/no-explicit-any -- JSON of another program
export function ipJson(netns: string, ...args: string[]): any[] {
  return JSON.parse(ip(netns, "-j", ...args) || "[]");
}

/** Polls until it holds, with a deadline. */
export async function until(what: string, holds: () => boolean, timeoutMs = 3000): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !holds();) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A UDP echo server in a namespace; answers the sender's address. Returns its port. */
export function udpEcho(t: TestContext, netns: string, address: string): number {
  const server = createSocket(address.includes(":") ? "udp6" : "udp4");
  t.after(() => server.close());
  server.on("message", (_, from) => server.send(from.address, from.port, from.address));
  const fd = bindUdp({ netns, address, port: 0 });
  const port = boundPort(fd);
  server.bind({ fd }); // 'listening' comes at once with a descriptor
  return port;
}

/** What an echo server answers to one datagram, or undefined when nothing comes. */
export async function askUdp(netns: string, from: string, to: string, port: number): Promise<string | undefined> {
  const client = createSocket(to.includes(":") ? "udp6" : "udp4");
  try {
    client.bind({ fd: bindUdp({ netns, address: from, port: 0 }) });
    client.send("?", port, to);
    const [answer] = await once(client, "message", { signal: AbortSignal.timeout(1000) });
    return String(answer);
  } catch (error) {
    if ((error as Error).name === "AbortError") return undefined;
    throw error;
  } finally {
    client.close();
  }
}
