/** Names, labels and annotations: Kubernetes' rules and its texts. */
import type { FieldError } from "../api-error.ts";
import type { ApiObject, ObjectMeta } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";
import { randomInt } from "node:crypto";

const letters = "bcdfghjklmnpqrstvwxz2456789";

/** `prefix` cut to fit, and five random characters. */
export function generateName(prefix: string): string {
  let suffix = "";
  for (let i = 0; i < 5; i++) suffix += letters[randomInt(letters.length)];
  return prefix.slice(0, 63 - 5) + suffix;
}

const subdomainText =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const labelText =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const label1035Text =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const qualifiedText =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const labelValueText =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const tooLong = (limit: number): string => `must be no more than ${limit} characters`;

/** Problems of a DNS-1123 subdomain, as texts. */
export function subdomainProblems(name: string): string[] {
  const problems = name.length > 253 ? [tooLong(253)] : [];
  if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(name)) problems.push(subdomainText);
  return problems;
}
export function labelProblems(name: string): string[] {
  const problems = name.length > 63 ? [tooLong(63)] : [];
  if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name)) problems.push(labelText);
  return problems;
}
export function label1035Problems(name: string): string[] {
  const problems = name.length > 63 ? [tooLong(63)] : [];
  if (!/^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(name)) problems.push(label1035Text);
  return problems;
}
/** Problems of `prefix/name` keys (labels, annotations, taints, resources). */
export function qualifiedNameProblems(key: string): string[] {
  const parts = key.split("/");
  const name = parts.at(-1)!;
  if (parts.length > 2)
    return [
      `a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  const problems: string[] = [];
  if (parts.length === 2) {
    if (parts[0] === "") problems.push("prefix part must be non-empty");
    else problems.push(...subdomainProblems(parts[0]!).map((text) => `prefix part ${text}`));
  }
  if (name === "") problems.push("name part must be non-empty");
  else if (name.length > 63) problems.push("name part must be no more than 63 characters");
  if (!/^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/.test(name)) problems.push(qualifiedText);
  return problems;
}
export function labelValueProblems(value: string): string[] {
  const problems = value.length > 63 ? [tooLong(63)] : [];
  if (!/^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/.test(value)) problems.push(labelValueText);
  return problems;
}

function pathSegmentProblems(name: string): string[] {
  if (name === "." || name === "..") return [`may not be '${name}'`];
  return ["/", "%"].filter((bad) => name.includes(bad)).map((bad) => `may not contain '${bad}'`);
}

const byKind: Record<string, (name: string) => string[]> = {
  "/Service": label1035Problems,
  "/Namespace": labelProblems,
  "apps/StatefulSet": labelProblems,
  "rbac.authorization.k8s.io/Role": pathSegmentProblems,
  "rbac.authorization.k8s.io/ClusterRole": pathSegmentProblems,
  "rbac.authorization.k8s.io/RoleBinding": pathSegmentProblems,
  "rbac.authorization.k8s.io/ClusterRoleBinding": pathSegmentProblems,
  "certificates.k8s.io/CertificateSigningRequest": pathSegmentProblems,
  "networking.k8s.io/IPAddress": (name) =>
    /^[0-9a-f.:]+$/.test(name) ? [] : ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
};

/** Errors in an object's metadata. */
export function validateMetadata(info: ResourceInfo, object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const { metadata } = object;
  const errors: FieldError[] = [];
  if (old === undefined) {
    const problems = byKind[`${info.group}/${info.kind}`] ?? subdomainProblems;
    if (metadata.name === "")
      errors.push({ type: "Required", field: "metadata.name", detail: "name or generateName is required" });
    else
      for (const text of problems(metadata.name))
        errors.push({ type: "Invalid", field: "metadata.name", value: metadata.name, detail: text });
  }
  errors.push(
    ...validateLabels(metadata.labels, "metadata.labels"),
    ...annotationErrors(metadata),
    ...ownerErrors(metadata),
    ...finalizerErrors(metadata, old),
  );
  return errors;
}

/** Errors in a label map at `field`. */
export function validateLabels(labels: Record<string, string> | undefined, field: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const [key, value] of Object.entries(labels ?? {})) {
    for (const text of qualifiedNameProblems(key)) errors.push({ type: "Invalid", field, value: key, detail: text });
    for (const text of labelValueProblems(value)) errors.push({ type: "Invalid", field, value, detail: text });
  }
  return errors;
}

function annotationErrors(metadata: ObjectMeta): FieldError[] {
  const errors: FieldError[] = [];
  let size = 0;
  for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
    size += key.length + Buffer.byteLength(value);
    for (const text of qualifiedNameProblems(key.toLowerCase()))
      errors.push({ type: "Invalid", field: "metadata.annotations", value: key, detail: text });
  }
  if (size > 262144)
    errors.push({ type: "TooLong", field: "metadata.annotations", detail: "may not be more than 262144 bytes" });
  return errors;
}

function ownerErrors(metadata: ObjectMeta): FieldError[] {
  const errors: FieldError[] = [];
  let controllers = 0;
  (metadata.ownerReferences ?? []).forEach((owner, index) => {
    const at = `metadata.ownerReferences[${index}]`;
    for (const field of ["apiVersion", "kind", "name", "uid"] as const) {
      if (!owner[field])
        errors.push({
          type: "Invalid",
          field: `${at}.${field}`,
          value: owner[field] ?? "",
          detail: field === "apiVersion" ? "version must not be empty" : "must not be empty",
        });
    }
    if (owner.controller === true) controllers++;
  });
  if (controllers > 1)
    errors.push({
      type: "Invalid",
      field: "metadata.ownerReferences",
      value: metadata.ownerReferences,
      detail: "Only one reference can have Controller set to true",
    });
  return errors;
}

function finalizerErrors(metadata: ObjectMeta, old: ApiObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of metadata.finalizers ?? []) {
    for (const text of qualifiedNameProblems(name))
      errors.push({ type: "Invalid", field: "metadata.finalizers", value: name, detail: text });
  }
  if (old?.metadata.deletionTimestamp !== undefined) {
    const added = (metadata.finalizers ?? []).filter((name) => !(old.metadata.finalizers ?? []).includes(name));
    if (added.length > 0)
      errors.push({
        type: "Forbidden",
        field: "metadata.finalizers",
        detail: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((n) => JSON.stringify(n)).join(", ")}}`,
      });
  }
  return errors;
}
