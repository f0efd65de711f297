/** Server certificates of the internet's hosts, issued once by the cluster's CA and kept in the state directory. */
import { createHash, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KeyPair } from "@underlay/pki/authority";

export type CertificateOptions = {
  /** Where it is kept. */
  readonly directory: string;
  readonly caCertFile: string;
  readonly caKeyFile: string;
  readonly names: readonly string[];
};

const renewBeforeMs = 30 * 24 * 3600 * 1000;

export async function ensureCertificate({
  directory,
  caCertFile,
  caKeyFile,
  names,
}: CertificateOptions): Promise<KeyPair> {
  const file = join(directory, createHash("sha256").update(names.join()).digest("hex").slice(0, 16));
  const authorityCert = readFileSync(caCertFile, "utf8");
  const kept = readPair(file);
  if (kept !== undefined && isUsable(kept.cert, authorityCert)) return kept;
  // The X.509 library costs some MB: loaded only when a certificate must be issued.
  const { issueLeaf } = await import("@underlay/pki/authority");
  const authority = { cert: authorityCert, key: readFileSync(caKeyFile, "utf8") };
  const issued = await issueLeaf(authority, { commonName: names[0]!, names, usage: "server" });
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, JSON.stringify(issued), { mode: 0o600 });
  renameSync(`${file}.new`, `${file}.json`);
  return issued;
}

function readPair(file: string): KeyPair | undefined {
  try {
    return JSON.parse(readFileSync(`${file}.json`, "utf8")) as KeyPair;
  } catch {
    return undefined;
  }
}

function isUsable(cert: string, authorityCert: string): boolean {
  const leaf = new X509Certificate(cert);
  return (
    leaf.verify(new X509Certificate(authorityCert).publicKey) && leaf.validToDate.getTime() - Date.now() > renewBeforeMs
  );
}
