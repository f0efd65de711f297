/**
 * A pod's sandbox: its shim, its network namespace and its attachment to the network. Made once, kept over restarts of the kubelet
 * (`sandbox-record.json` next to the shim's socket), made anew when the shim has died.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pod } from "@underlay/kube/objects";
import { podHostPorts } from "@underlay/kube/pod";
import { quantityValue } from "@underlay/kube/quantity";
import type { Attachment, Cni } from "./cni.ts";
import { resultAddresses } from "./cni-config.ts";
import { shimDir, type Places } from "./places.ts";
import { podHostname } from "./resolver-files.ts";
import type { SandboxRecord } from "./runtime.ts";
import { run, ShimClient, type ContainerState } from "./shim-client.ts";

type ShimRecord = SandboxRecord & {
  readonly attachment?: Attachment;
  /** Set once the network was attached (or is the node's): only then may containers start. */
  readonly ready: boolean;
};

export type ShimSandbox = {
  readonly record: ShimRecord;
  readonly shim: ShimClient;
  readonly containers: ContainerState[];
};

export async function createSandbox(pod: Pod, places: Places, cni: Cni): Promise<ShimSandbox> {
  const uid = pod.metadata.uid ?? "";
  const dir = shimDir(places, uid);
  const id = randomBytes(32).toString("hex");
  const hostNetwork = pod.spec?.hostNetwork === true;
  const netns = join(places.netns, `cni-${randomUUID()}`);
  const base = {
    id,
    uid,
    namespace: pod.metadata.namespace ?? "",
    name: pod.metadata.name ?? "",
    ...(hostNetwork ? {} : { netns }),
  };
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const attachment: Attachment | undefined = hostNetwork
    ? undefined
    : {
        containerId: id,
        netns,
        podNamespace: base.namespace,
        podName: base.name,
        podUid: uid,
        portMappings: portMappings(pod),
        ...bandwidth(pod),
      };
  // Written before the namespace exists: whatever happens next, DEL can be called for it.
  await writeRecord(dir, { ...base, ...(attachment ? { attachment } : {}), ips: [], ready: false });
  const sysctls = Object.fromEntries((pod.spec?.securityContext?.sysctls ?? []).map((s) => [s.name, s.value]));
  const shim = await ShimClient.launch(places.lua, dir, {
    hostname: podHostname(pod),
    ...(hostNetwork ? {} : { netns }),
    ...(pod.spec?.hostPID ? { hostPid: true } : {}),
    ...(pod.spec?.hostIPC ? { hostIpc: true } : {}),
    ...(Object.keys(sysctls).length > 0 ? { sysctls } : {}),
  });
  try {
    const ips = attachment ? resultAddresses(await cni.add(attachment)) : [];
    const record: ShimRecord = { ...base, ...(attachment ? { attachment } : {}), ips, ready: true };
    await writeRecord(dir, record);
    return { record, shim, containers: [] };
  } catch (err) {
    // The spec: after a failed ADD the runtime calls DEL, so that plugins can take back what they gave.
    if (attachment) await cni.delete(attachment).catch(() => {});
    await shim.stop();
    await removeNetnsFile(netns);
    throw err;
  }
}

/** The sandbox that still runs for a pod; undefined when there is none (its remains stay for `removeSandbox`). */
export async function findSandbox(uid: string, places: Places): Promise<ShimSandbox | undefined> {
  const record = await readRecord(shimDir(places, uid));
  if (!record?.ready) return undefined;
  const found = await ShimClient.find(shimDir(places, uid));
  return found ? { record, shim: found.shim, containers: found.containers } : undefined;
}

/** Takes the sandbox (or what is left of one) away: DEL, then the shim and its namespace. Throws when DEL fails; call again. */
export async function removeSandbox(uid: string, places: Places, cni: Cni): Promise<void> {
  const dir = shimDir(places, uid);
  const record = await readRecord(dir);
  if (record?.attachment) await cni.delete(record.attachment);
  await new ShimClient(dir).stop();
  if (record?.attachment) await removeNetnsFile(record.attachment.netns);
  await rm(dir, { recursive: true, force: true });
}

/** Every pod that has a sandbox or remains of one on this node. */
export async function listSandboxes(places: Places): Promise<ShimRecord[]> {
  const uids = await readdir(places.run).catch(() => [] as string[]);
  const records = await Promise.all(uids.map((uid) => readRecord(join(places.run, uid))));
  return records.filter((record) => record !== undefined);
}

async function readRecord(dir: string): Promise<ShimRecord | undefined> {
  try {
    return JSON.parse(await readFile(join(dir, "sandbox-record.json"), "utf8")) as ShimRecord;
  } catch {
    return undefined;
  }
}

async function writeRecord(dir: string, record: ShimRecord): Promise<void> {
  const file = join(dir, "sandbox-record.json");
  await writeFile(`${file}.new`, JSON.stringify(record));
  await rename(`${file}.new`, file);
}

/** A shim that was killed leaves its namespace's name mounted. */
async function removeNetnsFile(netns: string): Promise<void> {
  const mounts = await readFile("/proc/self/mounts", "utf8");
  if (mounts.includes(` ${netns} `)) await run("umount", ["-l", netns]).catch(() => {});
  await rm(netns, { force: true });
}

export function portMappings(pod: Pod): Attachment["portMappings"] {
  const byPort = new Map(
    (pod.spec?.containers ?? []).flatMap((c) =>
      (c.ports ?? []).map((p) => [`${p.protocol ?? "TCP"}/${p.hostPort}/${p.hostIP ?? ""}`, p] as const),
    ),
  );
  if (podHostPorts(pod).length === 0) return [];
  return [...byPort.values()]
    .filter((p) => p.hostPort)
    .map((p) => ({
      hostPort: p.hostPort ?? 0,
      containerPort: p.containerPort,
      protocol: (p.protocol ?? "TCP").toLowerCase(),
      ...(p.hostIP ? { hostIP: p.hostIP } : {}),
    }));
}

/** The annotations the bandwidth plugin is driven by. */
function bandwidth(pod: Pod): {
  bandwidth?: { ingressRate?: number; egressRate?: number; ingressBurst?: number; egressBurst?: number };
} {
  const rate = (key: string) => pod.metadata.annotations?.[`kubernetes.io/${key}-bandwidth`];
  const [ingress, egress] = [rate("ingress"), rate("egress")];
  if (!ingress && !egress) return {};
  const burst = 2 ** 31 - 1;
  return {
    bandwidth: {
      ...(ingress ? { ingressRate: quantityValue(ingress), ingressBurst: burst } : {}),
      ...(egress ? { egressRate: quantityValue(egress), egressBurst: burst } : {}),
    },
  };
}
