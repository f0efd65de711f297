/**
 * The cluster's certificate authority (EC P-256): makes itself, issues leaf certificates, signs CSRs.
 * All values are PEM text. Certificates are valid from five minutes ago, so a small clock difference is harmless.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { randomBytes, webcrypto } from "node:crypto";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const subjectAlternativeName = "2.5.29.17";
const year = 365 * 24 * 3600 * 1000;

x509.cryptoProvider.set(webcrypto as never);

export type KeyPair = { readonly cert: string; readonly key: string };

export type LeafRequest = {
  /** Subject common name: the user name for client certificates. */
  readonly commonName: string;
  /** Subject organizations: the groups for client certificates. */
  readonly organizations?: readonly string[];
  /** DNS names and IP addresses (told apart by form) of the subject alternative name. */
  readonly names?: readonly string[];
  readonly usage: "server" | "client" | "both";
};

/** A new self-signed CA, valid ten years. */
export async function createAuthority(commonName: string): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(8).toString("hex"),
    name: `CN=${commonName}`,
    notBefore: new Date(Date.now() - 300_000),
    notAfter: new Date(Date.now() + 10 * year),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { cert: cert.toString("pem"), key: await exportKey(keys.privateKey) };
}

/** A leaf signed by `authority`, valid one year, with a fresh key. */
export async function issueLeaf(authority: KeyPair, request: LeafRequest): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const cert = await signLeaf(authority, request, keys.publicKey);
  return { cert, key: await exportKey(keys.privateKey) };
}

/** Signs a PEM CSR, keeping its subject and alternative names. Throws when its signature does not verify. */
export async function signRequest(authority: KeyPair, csrPem: string, usage: LeafRequest["usage"]): Promise<string> {
  const csr = new x509.Pkcs10CertificateRequest(csrPem);
  if (!(await csr.verify())) throw new Error("Cannot sign the certificate request: its signature does not verify");
  const alternative = csr.getExtension(subjectAlternativeName) as x509.SubjectAlternativeNameExtension | null;
  return signLeaf(
    authority,
    {
      commonName: csr.subjectName.getField("CN")[0] ?? "",
      organizations: csr.subjectName.getField("O"),
      names: alternative?.names.items.map((item) => item.value) ?? [],
      usage,
    },
    await csr.publicKey.export(),
  );
}

/** A CSR and its fresh key. */
export async function createRequest(request: Omit<LeafRequest, "usage">): Promise<{ csr: string; key: string }> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: subject(request),
    keys,
    signingAlgorithm: algorithm,
    extensions: alternativeNames(request.names ?? []),
  });
  return { csr: csr.toString("pem"), key: await exportKey(keys.privateKey) };
}

async function signLeaf(authority: KeyPair, request: LeafRequest, publicKey: webcrypto.CryptoKey): Promise<string> {
  const issuer = new x509.X509Certificate(authority.cert);
  const signingKey = await importKey(authority.key);
  const usages: string[] = [];
  if (request.usage !== "client") usages.push(x509.ExtendedKeyUsage.serverAuth);
  if (request.usage !== "server") usages.push(x509.ExtendedKeyUsage.clientAuth);
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: randomBytes(8).toString("hex"),
    subject: subject(request),
    issuer: issuer.subject,
    notBefore: new Date(Date.now() - 300_000),
    notAfter: new Date(Date.now() + year),
    signingAlgorithm: algorithm,
    signingKey,
    publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension(usages),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...alternativeNames(request.names ?? []),
    ],
  });
  return cert.toString("pem");
}

function subject(request: { commonName: string; organizations?: readonly string[] }): x509.JsonName {
  return [...(request.organizations ?? []).map((o) => ({ O: [o] })), { CN: [request.commonName] }];
}

function alternativeNames(names: readonly string[]): x509.Extension[] {
  if (names.length === 0) return [];
  const items = names.map((value) => ({ type: isAddress(value) ? ("ip" as const) : ("dns" as const), value }));
  return [new x509.SubjectAlternativeNameExtension(items)];
}

function isAddress(name: string): boolean {
  return /^[0-9.]+$/.test(name) || name.includes(":");
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const der = x509.PemConverter.decodeFirst(pem);
  return webcrypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);
}
