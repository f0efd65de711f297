/** Cgroups of instances: found by name in every hierarchy, whatever version and place they were made in. */
import { readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const mountPoint = "/sys/fs/cgroup";
/** The last processes of a cgroup are gone a moment after they were killed. */
const patienceMs = 5000;

/** Every cgroup whose name begins with `prefix`, e.g. `/sys/fs/cgroup/memory/ul-ab12-i-0123`. */
export function findCgroups(prefix: string, below = mountPoint): string[] {
  return folders(below).flatMap((name) =>
    name.startsWith(prefix) ? [join(below, name)] : findCgroups(prefix, join(below, name)),
  );
}

/** Removes them with all below; throws what is still in use after five seconds. */
export async function removeCgroups(prefix: string): Promise<number> {
  const found = findCgroups(prefix);
  const giveUpAt = Date.now() + patienceMs;
  for (const path of found) {
    for (;;) {
      try {
        removeTree(path);
        break;
      } catch (err) {
        if ((err as NodeJS.ErrnoException).code !== "EBUSY" || Date.now() > giveUpAt) throw err;
        await sleep(50);
      }
    }
  }
  return found.length;
}

function removeTree(path: string): void {
  for (const name of folders(path)) removeTree(join(path, name));
  try {
    rmdirSync(path);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== "ENOENT") throw err;
  }
}

function folders(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return []; // it went while we looked, or cgroups are not mounted here
  }
}
