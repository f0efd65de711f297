import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { serveDns } from "./server.ts";

const run = promisify(execFile);

/** Asks with `dig`, a client that is not ours. */
async function dig(port: number, ...args: string[]): Promise<string> {
  const { stdout } = await run("dig", ["@127.0.0.1", "-p", String(port), "+tries=1", "+time=2", ...args]);
  return stdout;
}

test("serveDns() answers dig over UDP and TCP, truncates what is too large and stays up after rubbish", async () => {
  const many = Array.from({ length: 60 }, (_, index) => `10.0.0.${index}`);
  const server = await serveDns({
    port: 0,
    address: "127.0.0.1",
    observe: () => {},
    resolve: async ({ name, type }) => ({
      rcode: name === "no.test" ? "NXDOMAIN" : "NOERROR",
      authoritative: true,
      answers: name === "no.test" ? [] : many.map((data) => ({ type: type as "A", name, ttl: 5, data })),
      authorities: [],
      additionals: [],
    }),
  });
  try {
    const { udp, tcp } = server.address;
    const plain = await dig(udp, "+noedns", "+ignore", "many.test", "A");
    assert.match(plain, /flags: qr aa tc rd ra/);
    assert.match(plain, /ANSWER: 0/);
    assert.equal((await dig(udp, "+short", "+bufsize=4096", "many.test", "A")).trim().split("\n").length, 60);
    assert.equal((await dig(tcp, "+tcp", "+short", "many.test", "A")).trim().split("\n").length, 60);
    assert.match(await dig(udp, "no.test", "A"), /status: NXDOMAIN/);
    const { createSocket } = await import("node:dgram");
    const rubbish = createSocket("udp4");
    await new Promise<void>((sent) => rubbish.send(Buffer.from([1, 2, 3]), udp, "127.0.0.1", () => sent()));
    rubbish.close();
    assert.match(await dig(udp, "no.test", "A"), /status: NXDOMAIN/);
  } finally {
    await server.close();
  }
});
