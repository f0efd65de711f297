/**
 * The certificate of port 10250: asked for by a CertificateSigningRequest (signer kubernetes.io/kubelet-serving). Until it is signed the
 * server answers with one that nobody trusts, as upstream does; a signed one is kept on disk and used again.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { certificateSigningRequests } from "@underlay/kube/resources";
import type { KubeletContext } from "./kubelet-context.ts";

export type ServingPair = { readonly cert: string; readonly key: string };

const askAgainMs = 60_000;

/** What to serve with at once: the kept certificate, or a self-signed one. */
export async function firstServingPair(context: KubeletContext): Promise<{ pair: ServingPair; signed: boolean }> {
  const kept = await readKept(context);
  if (kept) return { pair: kept, signed: true };
  const { createAuthority } = await import("@underlay/pki/authority");
  return { pair: await createAuthority(context.settings.nodeName), signed: false };
}

/** Asks until a signed certificate comes, and hands it over. */
export async function requestServingPair(
  context: KubeletContext,
  use: (pair: ServingPair) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let delayMs = 500; !signal.aborted; delayMs = Math.min(delayMs * 2, 15_000)) {
    try {
      const pair = await askOnce(context, signal);
      if (pair) {
        await keep(context, pair);
        use(pair);
        return;
      }
    } catch (err) {
      context.log.warn("cannot get a serving certificate, trying again", { err });
    }
    await sleep(delayMs, undefined, { signal }).catch(() => {});
  }
}

async function askOnce(context: KubeletContext, signal: AbortSignal): Promise<ServingPair | undefined> {
  const { client, settings } = context;
  const { createRequest } = await import("@underlay/pki/authority");
  const names = [...new Set([settings.nodeIp, settings.privateDnsName, settings.nodeName])];
  const { csr, key } = await createRequest({
    commonName: `system:node:${settings.nodeName}`,
    organizations: ["system:nodes"],
    names,
  });
  const made = await client.create(certificateSigningRequests, {
    apiVersion: "certificates.k8s.io/v1",
    kind: "CertificateSigningRequest",
    metadata: { generateName: "csr-" },
    spec: {
      request: Buffer.from(csr).toString("base64"),
      signerName: "kubernetes.io/kubelet-serving",
      usages: ["digital signature", "server auth"],
    },
  });
  const giveUpAt = Date.now() + askAgainMs;
  while (Date.now() < giveUpAt && !signal.aborted) {
    const seen = await client.find(certificateSigningRequests, made.metadata.name ?? "");
    const certificate = seen?.status?.certificate;
    if (certificate) return { cert: Buffer.from(certificate, "base64").toString("utf8"), key };
    if (!seen || seen.status?.conditions?.some((c) => c.type === "Denied" || c.type === "Failed")) return undefined;
    await sleep(250, undefined, { signal }).catch(() => {});
  }
  return undefined;
}

async function keep(context: KubeletContext, pair: ServingPair): Promise<void> {
  await mkdir(context.places.pki, { recursive: true });
  await writeFile(join(context.places.pki, "kubelet-server-current.pem"), pair.cert + pair.key, { mode: 0o600 });
}

async function readKept(context: KubeletContext): Promise<ServingPair | undefined> {
  try {
    const text = await readFile(join(context.places.pki, "kubelet-server-current.pem"), "utf8");
    const at = text.search(/-----BEGIN [A-Z ]*PRIVATE KEY-----/);
    const cert = text.slice(0, at);
    const certificate = new X509Certificate(cert);
    const ours =
      certificate.checkIP(context.settings.nodeIp) !== undefined &&
      certificate.verify(new X509Certificate(context.settings.clusterCa).publicKey);
    return ours && Date.parse(certificate.validTo) > Date.now() + 7 * 24 * 3600_000
      ? { cert, key: text.slice(at) }
      : undefined;
  } catch {
    return undefined;
  }
}
