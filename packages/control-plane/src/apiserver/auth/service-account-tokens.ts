/**
 * Service-account tokens: JWTs (RS256, as EKS) signed with a key kept in the state folder, so that tokens outlive a restart;
 * and the OIDC documents by which others (IRSA) verify them. A token is good while its account, and the pod it is bound to, live.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomUUID,
  sign,
  verify,
  type KeyObject,
} from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { badRequest, conflict, invalid, notFound, type FieldError } from "../api-error.ts";
import { kubernetesTime, type ApiObject } from "../api-object.ts";
import type { HttpAnswer, HttpQuestion, ObjectReader, UserInfo } from "../seams.ts";
import { withAuthenticated } from "./authenticate.ts";

type Options = {
  readonly stateDir: string;
  readonly issuer: string;
  readonly objects: ObjectReader;
  readonly now: () => number;
};
type Bound = { name: string; uid: string };
type Claims = {
  aud: string[];
  exp: number;
  iat: number;
  nbf: number;
  iss: string;
  jti: string;
  sub: string;
  "kubernetes.io": { namespace: string; serviceaccount: Bound; pod?: Bound; secret?: Bound; node?: Bound };
};

const minimumSeconds = 600;
const cacheMs = 10_000;
const clusterAudience = "https://kubernetes.default.svc";

export class ServiceAccountTokens {
  /** What a token must be for to speak to this server. */
  readonly audiences: readonly string[];
  readonly #options: Options;
  readonly #key: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #kid: string;
  /** Good tokens only: a bad one may be good a moment later, when the object it is bound to has been seen. */
  readonly #cache = new Map<string, { readonly until: number; readonly user: UserInfo }>();

  constructor(options: Options) {
    this.#options = options;
    this.#key = loadKey(join(options.stateDir, "service-account.key"));
    this.#publicKey = createPublicKey(this.#key);
    this.#kid = createHash("sha256")
      .update(this.#publicKey.export({ type: "spki", format: "der" }))
      .digest("base64url");
    this.audiences = [...new Set([options.issuer, clusterAudience])];
  }

  /** The user of a token, or undefined. `audiences` (default: this server's) must share one with the token. */
  authenticate(token: string, audiences: readonly string[] = this.audiences): UserInfo | undefined {
    const now = this.#options.now();
    const key = `${audiences.join()} ${token}`;
    const cached = this.#cache.get(key);
    if (cached && cached.until > now) return cached.user;
    const user = this.#verify(token, audiences, now);
    if (this.#cache.size > 2000) this.#cache.clear();
    if (user) this.#cache.set(key, { until: now + cacheMs, user });
    return user;
  }

  #verify(token: string, audiences: readonly string[], now: number): UserInfo | undefined {
    const claims = this.#claims(token);
    if (!claims || claims.iss !== this.#options.issuer) return undefined;
    if (claims.exp * 1000 <= now || claims.nbf * 1000 > now + 60_000) return undefined;
    if (!claims.aud.some((audience) => audiences.includes(audience))) return undefined;
    const { namespace, serviceaccount, pod, secret, node } = claims["kubernetes.io"];
    if (!this.#alive("/serviceaccounts", namespace, serviceaccount, now)) return undefined;
    if (pod && !this.#alive("/pods", namespace, pod, now)) return undefined;
    if (secret && !this.#alive("/secrets", namespace, secret, now)) return undefined;
    const extra: Record<string, string[]> = { "authentication.kubernetes.io/credential-id": [`JTI=${claims.jti}`] };
    if (pod) {
      extra["authentication.kubernetes.io/pod-name"] = [pod.name];
      extra["authentication.kubernetes.io/pod-uid"] = [pod.uid];
    }
    if (node) {
      extra["authentication.kubernetes.io/node-name"] = [node.name];
      if (node.uid) extra["authentication.kubernetes.io/node-uid"] = [node.uid];
    }
    return {
      username: claims.sub,
      uid: serviceaccount.uid,
      groups: withAuthenticated(["system:serviceaccounts", `system:serviceaccounts:${namespace}`]),
      extra,
    };
  }

  /** Same uid, and not deleted for more than a minute (a terminating pod still ends its work). */
  #alive(storage: string, namespace: string, bound: Bound, now: number): boolean {
    const object = this.#options.objects.get(storage, namespace, bound.name);
    if (!object || object.metadata.uid !== bound.uid) return false;
    const deletion = object.metadata.deletionTimestamp;
    return deletion === undefined || Date.parse(deletion) + 60_000 > now;
  }

  #claims(token: string): Claims | undefined {
    const [header, payload, signature, ...more] = token.split(".");
    if (!header || !payload || !signature || more.length) return undefined;
    try {
      const { alg } = JSON.parse(Buffer.from(header, "base64url").toString()) as { alg?: string };
      if (alg !== "RS256") return undefined;
      const signed = Buffer.from(`${header}.${payload}`);
      if (!verify("sha256", signed, this.#publicKey, Buffer.from(signature, "base64url"))) return undefined;
      const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Claims & { aud: string | string[] };
      return { ...claims, aud: typeof claims.aud === "string" ? [claims.aud] : claims.aud };
    } catch {
      // Not a JWT: some other kind of bearer token, or garbage.
      return undefined;
    }
  }

  /** Answers a TokenRequest on a service account. */
  request(account: ApiObject, request: ApiObject): ApiObject {
    const spec = request["spec"] ?? {};
    const seconds: number = spec.expirationSeconds ?? 3600;
    const errors: FieldError[] = [];
    if (seconds < minimumSeconds) {
      errors.push({
        type: "Invalid",
        field: "spec.expirationSeconds",
        value: seconds,
        detail: "may not specify a duration less than 10 minutes",
      });
    }
    if (seconds > 2 ** 32) {
      errors.push({
        type: "Invalid",
        field: "spec.expirationSeconds",
        value: seconds,
        detail: "may not specify a duration larger than 2^32 seconds",
      });
    }
    if (errors.length) throw invalid({ group: "authentication.k8s.io", kind: "TokenRequest" }, "", errors);
    const audiences: string[] = spec.audiences?.length ? spec.audiences : [this.#options.issuer];
    const namespace = account.metadata.namespace ?? "";
    const issued = Math.floor(this.#options.now() / 1000);
    const claims: Claims = {
      aud: audiences,
      exp: issued + seconds,
      iat: issued,
      iss: this.#options.issuer,
      jti: randomUUID(),
      "kubernetes.io": {
        namespace,
        ...this.#bound(account, spec.boundObjectRef),
        serviceaccount: { name: account.metadata.name, uid: account.metadata.uid ?? "" },
      },
      nbf: issued,
      sub: `system:serviceaccount:${namespace}:${account.metadata.name}`,
    };
    return {
      kind: "TokenRequest",
      apiVersion: "authentication.k8s.io/v1",
      metadata: { name: account.metadata.name, namespace, creationTimestamp: kubernetesTime(issued * 1000) },
      spec: { audiences, expirationSeconds: seconds, boundObjectRef: spec.boundObjectRef ?? null },
      status: { token: this.#sign(claims), expirationTimestamp: kubernetesTime(claims.exp * 1000) },
    };
  }

  #bound(
    account: ApiObject,
    ref: { kind?: string; name?: string; uid?: string } | null | undefined,
  ): Partial<Claims["kubernetes.io"]> {
    if (!ref) return {};
    const namespace = account.metadata.namespace ?? "";
    const plural = ({ Pod: "pods", Secret: "secrets", Node: "nodes" } as Record<string, string>)[ref.kind ?? ""];
    if (plural === undefined) throw badRequest(`cannot bind token to object of type ${ref.kind ?? ""}`);
    const name = ref.name ?? "";
    const object = this.#options.objects.get(`/${plural}`, plural === "nodes" ? "" : namespace, name);
    if (!object) throw notFound({ group: "", plural }, name);
    const uid = object.metadata.uid ?? "";
    if (ref.uid && ref.uid !== uid) {
      throw conflict(
        { group: "", plural },
        name,
        `the UID in the bound object reference (${ref.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
      );
    }
    if (plural === "secrets") return { secret: { name, uid } };
    if (plural === "nodes") return { node: { name, uid } };
    const owner: string = object["spec"]?.serviceAccountName ?? "default";
    if (owner !== account.metadata.name) {
      throw badRequest(
        `cannot bind token for serviceaccount "${account.metadata.name}" to pod running with different serviceaccount name.`,
      );
    }
    const nodeName: string | undefined = object["spec"]?.nodeName;
    const node = nodeName ? this.#options.objects.get("/nodes", "", nodeName) : undefined;
    return { pod: { name, uid }, ...(nodeName ? { node: { name: nodeName, uid: node?.metadata.uid ?? "" } } : {}) };
  }

  #sign(claims: Claims): string {
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const unsigned = `${encode({ alg: "RS256", kid: this.#kid })}.${encode(claims)}`;
    return `${unsigned}.${sign("sha256", Buffer.from(unsigned), this.#key).toString("base64url")}`;
  }

  /** The issuer's discovery document and its keys. */
  wellKnown(question: HttpQuestion): HttpAnswer | undefined {
    if (question.path === "/.well-known/openid-configuration") {
      const body = JSON.stringify({
        issuer: this.#options.issuer,
        jwks_uri: `${this.#options.issuer}${this.#options.issuer === clusterAudience ? "/openid/v1/jwks" : "/keys"}`,
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
      });
      return {
        status: 200,
        headers: { "content-type": "application/json", "cache-control": "public, max-age=3600" },
        body,
      };
    }
    if (question.path === "/openid/v1/jwks") {
      const { n, e } = this.#publicKey.export({ format: "jwk" });
      const body = JSON.stringify({ keys: [{ use: "sig", kty: "RSA", kid: this.#kid, alg: "RS256", n, e }] });
      return {
        status: 200,
        headers: { "content-type": "application/jwk-set+json", "cache-control": "public, max-age=3600" },
        body,
      };
    }
    return undefined;
  }
}

/** The key of a state folder; made once, since a new key would invalidate every token. */
function loadKey(file: string): KeyObject {
  if (!existsSync(file)) {
    mkdirSync(join(file, ".."), { recursive: true });
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(`${file}.new`, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    renameSync(`${file}.new`, file);
  }
  return createPrivateKey(readFileSync(file));
}
