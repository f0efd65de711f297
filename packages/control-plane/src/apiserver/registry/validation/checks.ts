/** Collects field errors: small checks in Kubernetes's words, shared by the kinds' validations. */
import type { JsonObject } from "../../api-object.ts";
import { supportedValues, type FieldError } from "../../api-error.ts";
import { labelProblems, qualifiedNameProblems, subdomainProblems, validateLabels } from "../object-names.ts";

export class Checks {
  readonly errors: FieldError[] = [];

  required(field: string, detail?: string): void {
    this.errors.push({ type: "Required", field, ...(detail === undefined ? {} : { detail }) });
  }
  invalid(field: string, value: unknown, detail: string): void {
    this.errors.push({ type: "Invalid", field, value, detail });
  }
  forbidden(field: string, detail: string): void {
    this.errors.push({ type: "Forbidden", field, detail });
  }
  duplicate(field: string, value: unknown): void {
    this.errors.push({ type: "Duplicate", field, value });
  }
  notFound(field: string, value: unknown): void {
    this.errors.push({ type: "NotFound", field, value });
  }
  /** A value of a closed set; absent is fine. */
  oneOf(field: string, value: string | undefined, allowed: readonly string[]): void {
    if (value !== undefined && !allowed.includes(value))
      this.errors.push({ type: "NotSupported", field, value, detail: supportedValues(allowed) });
  }
  notNegative(field: string, value: number | undefined): void {
    if (value !== undefined && value < 0) this.invalid(field, value, "must be greater than or equal to 0");
  }
  positive(field: string, value: number | undefined): void {
    if (value !== undefined && value <= 0) this.invalid(field, value, "must be greater than 0");
  }
  port(field: string, value: number | undefined): void {
    if (value !== undefined && (value < 1 || value > 65535))
      this.invalid(field, value, "must be between 1 and 65535, inclusive");
  }
  /** A number, or the name of a port. */
  portOrName(field: string, value: number | string | undefined): void {
    if (typeof value === "number") this.port(field, value);
    else if (typeof value === "string") for (const text of portNameProblems(value)) this.invalid(field, value, text);
  }
  /** A non-negative number or percentage. */
  countOrPercent(field: string, value: number | string | undefined): void {
    if (typeof value === "number") this.notNegative(field, value);
    else if (typeof value === "string" && !/^\d+%$/.test(value))
      this.invalid(
        field,
        value,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
      );
  }
  label(field: string, value: string): void {
    for (const text of labelProblems(value)) this.invalid(field, value, text);
  }
  subdomain(field: string, value: string): void {
    for (const text of subdomainProblems(value)) this.invalid(field, value, text);
  }
  qualified(field: string, value: string): void {
    for (const text of qualifiedNameProblems(value)) this.invalid(field, value, text);
  }
  labels(field: string, labels: Record<string, string> | undefined): void {
    this.errors.push(...validateLabels(labels, field));
  }
  immutable(field: string, value: unknown, old: unknown): void {
    if (JSON.stringify(sortedKeys(value)) !== JSON.stringify(sortedKeys(old)))
      this.invalid(field, value, "field is immutable");
  }
  /** A label selector's own form. */
  labelSelector(field: string, selector: JsonObject | undefined): void {
    if (selector === undefined) return;
    this.labels(`${field}.matchLabels`, selector["matchLabels"]);
    ((selector["matchExpressions"] ?? []) as JsonObject[]).forEach((expression, index) => {
      const at = `${field}.matchExpressions[${index}]`;
      const { operator, values = [] } = expression;
      if (operator === "In" || operator === "NotIn") {
        if (values.length === 0) this.required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
      } else if (operator === "Exists" || operator === "DoesNotExist") {
        if (values.length > 0)
          this.forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
      } else this.invalid(`${at}.operator`, operator ?? "", "not a valid selector operator");
      this.qualified(`${at}.key`, expression["key"] ?? "");
    });
  }
}

/** IANA service names, as ports are named. */
export function portNameProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 15) problems.push("must be no more than 15 characters");
  if (!/^[a-z0-9-]*$/.test(name))
    problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!/[a-z]/.test(name)) problems.push("must contain at least one letter (a-z)");
  if (name.includes("--")) problems.push("must not contain consecutive hyphens");
  if (name.startsWith("-") || name.endsWith("-")) problems.push("must not begin or end with a hyphen");
  return problems;
}

/** The value with object keys in order, so that equal values print equally. */
export function sortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortedKeys);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, v]) => v !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => [k, sortedKeys(v)]),
  );
}
