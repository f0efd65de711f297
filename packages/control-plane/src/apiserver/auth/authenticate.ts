/** Authentication of one request: certificate, bearer token, anonymous; then impersonation. */
import { createHash, X509Certificate } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import { ApiError } from "../api-error.ts";
import type { Decision, RequestAttributes, UserInfo } from "../seams.ts";

type Options = {
  readonly authenticateToken: (token: string) => Promise<UserInfo | undefined>;
  readonly authorize: (user: UserInfo, attributes: RequestAttributes) => Promise<Decision>;
};

export const anonymous: UserInfo = { username: "system:anonymous", groups: ["system:unauthenticated"] };
const clientAuth = "1.3.6.1.5.5.7.3.2";

/** undefined: credentials were given and are not valid (401). */
export function createAuthenticator(options: Options): (request: IncomingMessage) => Promise<UserInfo | undefined> {
  const byCertificate = new WeakMap<object, UserInfo | null>();

  function certificateUser(socket: IncomingMessage["socket"]): UserInfo | null {
    const tls = socket as TLSSocket;
    if (!tls.encrypted || typeof tls.getPeerX509Certificate !== "function") return null;
    let user = byCertificate.get(tls);
    if (user === undefined) {
      const certificate = tls.getPeerX509Certificate();
      user = certificate && tls.authorized ? userOfCertificate(certificate) : null;
      byCertificate.set(tls, user);
    }
    return user;
  }

  return async (request) => {
    let user: UserInfo | undefined | null = certificateUser(request.socket);
    if (!user) {
      const token = bearerToken(request);
      if (token === undefined) user = request.headers.authorization === undefined ? anonymous : undefined;
      else user = await options.authenticateToken(token);
    }
    if (!user) return undefined;
    return impersonated(user, request, options.authorize);
  };
}

/** CN is the user, O the groups. */
export function userOfCertificate(certificate: X509Certificate): UserInfo | null {
  if (certificate.keyUsage && !certificate.keyUsage.includes(clientAuth)) return null;
  let name = "";
  const groups: string[] = [];
  for (const line of certificate.subject.split("\n")) {
    // A multi-valued RDN is joined with "+" by OpenSSL's printer.
    for (const part of line.split(/(?<!\\)\+/)) {
      const [key, value] = [
        part.slice(0, part.indexOf("=")).trim(),
        part.slice(part.indexOf("=") + 1).replace(/\\(.)/g, "$1"),
      ];
      if (key === "CN") name = value;
      else if (key === "O") groups.push(value);
    }
  }
  if (name === "") return null;
  const fingerprint = createHash("sha256").update(certificate.raw).digest("hex");
  return {
    username: name,
    groups: withAuthenticated(groups),
    extra: { "authentication.kubernetes.io/credential-id": [`X509SHA256=${fingerprint}`] },
  };
}

/** A bearer token, also from the WebSocket subprotocol browsers have to use. */
function bearerToken(request: IncomingMessage): string | undefined {
  const header = request.headers.authorization;
  const match = header === undefined ? null : /^bearer\s+(\S+)\s*$/i.exec(header);
  if (match) return match[1];
  for (const protocol of String(request.headers["sec-websocket-protocol"] ?? "").split(",")) {
    const prefix = "base64url.bearer.authorization.k8s.io.";
    if (protocol.trim().startsWith(prefix))
      return Buffer.from(protocol.trim().slice(prefix.length), "base64url").toString();
  }
  return undefined;
}

export function withAuthenticated(groups: readonly string[]): string[] {
  return groups.includes("system:authenticated") ? [...groups] : [...groups, "system:authenticated"];
}

async function impersonated(
  user: UserInfo,
  request: IncomingMessage,
  authorize: Options["authorize"],
): Promise<UserInfo> {
  const headers = request.headersDistinct;
  const asUser = headers["impersonate-user"]?.[0];
  const groups = headers["impersonate-group"] ?? [];
  const uid = headers["impersonate-uid"]?.[0];
  const extra: Record<string, string[]> = {};
  for (const [name, values] of Object.entries(headers)) {
    if (name.startsWith("impersonate-extra-"))
      extra[decodeURIComponent(name.slice("impersonate-extra-".length))] = values ?? [];
  }
  const wants = groups.length > 0 || uid !== undefined || Object.keys(extra).length > 0;
  if (asUser === undefined) {
    if (wants) throw new ApiError(400, "BadRequest", "requested impersonating without impersonating a user");
    return user;
  }
  const serviceAccount = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(asUser);
  await mustImpersonate(
    user,
    authorize,
    serviceAccount ? "serviceaccounts" : "users",
    serviceAccount?.[2] ?? asUser,
    serviceAccount?.[1] ?? "",
  );
  for (const group of groups) await mustImpersonate(user, authorize, "groups", group);
  if (uid !== undefined) await mustImpersonate(user, authorize, "uids", uid, "", "authentication.k8s.io");
  for (const [key, values] of Object.entries(extra)) {
    for (const value of values)
      await mustImpersonate(user, authorize, "userextras", value, "", "authentication.k8s.io", key);
  }
  const implied =
    serviceAccount && groups.length === 0
      ? ["system:serviceaccounts", `system:serviceaccounts:${serviceAccount[1]}`]
      : groups;
  return {
    username: asUser,
    groups: asUser === anonymous.username ? ["system:unauthenticated"] : withAuthenticated(implied),
    ...(uid === undefined ? {} : { uid }),
    ...(Object.keys(extra).length ? { extra } : {}),
  };
}

async function mustImpersonate(
  user: UserInfo,
  authorize: Options["authorize"],
  resource: string,
  name: string,
  namespace = "",
  group = "",
  subresource = "",
): Promise<void> {
  const decision = await authorize(user, {
    verb: "impersonate",
    resource,
    group,
    version: "v1",
    subresource,
    namespace,
    name,
    path: "",
  });
  if (decision.allowed) return;
  const where = namespace ? `in the namespace "${namespace}"` : "at the cluster scope";
  const qualified = group ? `${resource}.${group}` : resource;
  throw new ApiError(
    403,
    "Forbidden",
    `${qualified} "${name}" is forbidden: User "${user.username}" cannot impersonate resource "${resource}" in API group "${group}" ${where}`,
    { name, ...(group ? { group } : {}), kind: resource },
  );
}
