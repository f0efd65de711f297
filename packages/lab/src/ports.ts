/**
 * The host doors' ports. Two `up`s at once must not choose the same one, and a port is only bound moments after it is chosen, so a
 * chosen port is claimed by a file that names its cluster's state: `/run/underlay/ports/<port>`. A claim whose cluster is gone is void.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { UnderlayError } from "@underlay/log/underlay-error";

const claims = "/run/underlay/ports";

/** Claims `preferred` or the next port that nobody listens on and no cluster has claimed. Throws `NoFreePort`. */
export async function claimPort(preferred: number, stateDir: string): Promise<number> {
  mkdirSync(claims, { recursive: true });
  for (let port = preferred; port < preferred + 100; port++) {
    if ((await isFree(port)) && claim(port, stateDir)) return port;
  }
  throw new UnderlayError(
    "NoFreePort",
    `Cannot open a door on 127.0.0.1: ports ${preferred} to ${preferred + 99} are all in use`,
    { hint: "See who listens: ss -ltnp" },
  );
}

/** Gives back what a cluster claimed. */
export function releasePorts(stateDir: string): void {
  if (!existsSync(claims)) return;
  for (const port of readdirSync(claims)) if (readClaim(join(claims, port)) === stateDir) rmSync(join(claims, port));
  for (const folder of [claims, join(claims, "..")]) {
    try {
      rmdirSync(folder);
    } catch {
      return; // another cluster's claim is in it
    }
  }
}

function claim(port: number, stateDir: string): boolean {
  const file = join(claims, String(port));
  const owner = readClaim(file);
  if (owner !== undefined && (owner === stateDir || !existsSync(owner))) rmSync(file, { force: true });
  try {
    writeFileSync(file, stateDir, { flag: "wx" });
    return true;
  } catch {
    return false;
  }
}

function readClaim(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const probe = createServer();
    probe.once("error", () => settle(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => settle(true)));
  });
}
