/**
 * The checkpoint file `/var/run/aws-node/ipam.json`, byte for byte upstream's format `vpc-cni-ipam/1`, so that either
 * program can take over a node from the other. Written whole on every change: temporary file, rename.
 *
 * No fsync: it would cost every ADD 1 to 25 ms where /var/run is on a disk, and guards only against the machine's own crash,
 * after which no pod of the checkpoint exists any more (`forgiveTornCheckpoint`).
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { UnderlayError } from "@underlay/log/underlay-error";

export const checkpointVersion = "vpc-cni-ipam/1";

/** Identity of a pod's address: one attachment of one sandbox. */
export type PodKey = {
  readonly networkName: string;
  readonly containerId: string;
  readonly ifName: string;
};

export type PodMetadata = {
  readonly namespace: string;
  readonly name: string;
  readonly interfacesCount: number;
};

export type Allocation = {
  readonly key: PodKey;
  readonly address: string;
  /** Nanoseconds since 1970, as Go writes it. */
  readonly allocatedNs: bigint;
  readonly pod: PodMetadata;
};

/** The file's text. Empty metadata fields are left out, as Go's `omitempty` does. */
export function formatCheckpoint(allocations: readonly Allocation[]): string {
  const rows = allocations.map(({ key, address, allocatedNs, pod }) => {
    const metadata = {
      ...(pod.namespace ? { k8sPodNamespace: pod.namespace } : {}),
      ...(pod.name ? { k8sPodName: pod.name } : {}),
      ...(pod.interfacesCount ? { interfacesCount: pod.interfacesCount } : {}),
    };
    const head = JSON.stringify({
      networkName: key.networkName,
      containerID: key.containerId,
      ifName: key.ifName,
      ipv4: address,
    });
    // The timestamp is beyond 2^53, so it is written as digits and not through a number.
    return `${head.slice(0, -1)},"allocationTimestamp":${allocatedNs},"metadata":${JSON.stringify(metadata)}}`;
  });
  return `{"version":"${checkpointVersion}","allocations":[${rows.join(",")}]}\n`;
}

/** Reads the file's text. Another version is refused: guessing would hand out addresses that are in use. */
export function parseCheckpoint(text: string): readonly Allocation[] {
  // TypeScript's lib has no third parameter of a reviver; `source` is the literal's text.
  const reviver = (name: string, value: unknown, context?: { source?: string }) =>
    name === "allocationTimestamp" ? BigInt(context?.source ?? String(value)) : value;
  let data: { version?: unknown; allocations?: unknown };
  try {
    data = JSON.parse(text, reviver as (this: unknown, key: string, value: unknown) => unknown);
  } catch (error) {
    throw new UnderlayError("checkpoint-unreadable", "Cannot restore the address pool: the checkpoint is not JSON", {
      hint: "Restart the node, or remove the file when no pod runs on it",
      cause: error,
    });
  }
  if (data.version !== checkpointVersion) {
    throw new UnderlayError(
      "checkpoint-version",
      `Cannot restore the address pool: the checkpoint has version ${JSON.stringify(data.version)}, not "${checkpointVersion}"`,
      { hint: "Restart the node so that no pod depends on the old checkpoint" },
    );
  }
  return Array.isArray(data.allocations) ? data.allocations.map(parseRow) : [];
}

function parseRow(row: Record<string, unknown>): Allocation {
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  const metadata = (row["metadata"] ?? {}) as Record<string, unknown>;
  const timestamp = row["allocationTimestamp"];
  return {
    key: {
      networkName: text(row["networkName"]),
      containerId: text(row["containerID"]),
      ifName: text(row["ifName"]),
    },
    address: text(row["ipv4"]),
    allocatedNs: typeof timestamp === "bigint" ? timestamp : 0n,
    pod: {
      namespace: text(metadata["k8sPodNamespace"]),
      name: text(metadata["k8sPodName"]),
      interfacesCount: typeof metadata["interfacesCount"] === "number" ? metadata["interfacesCount"] : 0,
    },
  };
}

export type CheckpointStore = {
  /** undefined when there is no file: a fresh node. */
  read(): readonly Allocation[] | undefined;
  write(allocations: readonly Allocation[]): void;
};

/** The checkpoint on disk. Synchronous on purpose: nothing may be answered before the file is down. */
export function checkpointFile(path: string): CheckpointStore {
  mkdirSync(dirname(path), { recursive: true });
  return {
    read() {
      try {
        return parseCheckpoint(readFileSync(path, "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },
    write(allocations) {
      const temporary = `${path}.tmp${process.pid}`;
      try {
        writeFileSync(temporary, formatCheckpoint(allocations), { mode: 0o600 });
      } catch (error) {
        rmSync(temporary, { force: true });
        throw error;
      }
      renameSync(temporary, path);
    },
  };
}

/** A half-written file on a node without a single pod link is what a machine's crash leaves: no pod needs it. */
export function forgiveTornCheckpoint(store: CheckpointStore, hasPodLinks: () => boolean): CheckpointStore {
  return {
    ...store,
    read() {
      try {
        return store.read();
      } catch (error) {
        if (error instanceof UnderlayError && error.code === "checkpoint-unreadable" && !hasPodLinks())
          return undefined;
        throw error;
      }
    },
  };
}
