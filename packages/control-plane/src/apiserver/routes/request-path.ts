/** Takes a URL path apart: `/api/v1/namespaces/NS/pods/NAME/log` → group, version, namespace, plural, name, subresource. */

export type ResourcePath = {
  readonly group: string;
  readonly version: string;
  readonly namespace: string;
  readonly plural: string;
  readonly name: string;
  readonly subresource: string;
  /** What follows the subresource (proxy). */
  readonly rest: string;
};

/** undefined for paths that are not resources. */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const parts = path.split("/").slice(1).map(decode);
  if (parts.at(-1) === "") parts.pop();
  let group = "";
  let at = 2;
  if (parts[0] === "apis") {
    group = parts[1] ?? "";
    at = 3;
  } else if (parts[0] !== "api") return undefined;
  const version = parts[at - 1] ?? "";
  const rest = parts.slice(at);
  if (rest.length === 0 || version === "") return undefined;
  // /namespaces/NS/<plural>… is inside a namespace; /namespaces, /namespaces/NS and its subresources are the namespace.
  if (
    rest[0] === "namespaces" &&
    rest.length > 2 &&
    !(group === "" && (rest[2] === "status" || rest[2] === "finalize") && rest.length === 3)
  ) {
    return resource(group, version, rest[1]!, rest.slice(2));
  }
  return resource(group, version, "", rest);
}

function resource(group: string, version: string, namespace: string, parts: readonly string[]): ResourcePath {
  const [plural = "", name = "", subresource = "", ...rest] = parts;
  return { group, version, namespace, plural, name, subresource, rest: rest.length === 0 ? "" : `/${rest.join("/")}` };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
