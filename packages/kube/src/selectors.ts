/** Label selectors: the text form of queries and the object form of specs, both as requirements that are ANDed. */
import type { LabelSelector } from "./objects.ts";

export type Requirement = {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";
  readonly values: readonly string[];
};
type Labels = Readonly<Record<string, string>> | undefined;

/** Parses `a=b,c!=d,e in (x,y),f notin (z),g,!h`. Throws on anything else. */
export function parseSelector(text: string): Requirement[] {
  return splitTopLevel(text).map(parseRequirement);
}

/** The requirements of a spec's selector; an empty selector has none and so matches everything. */
export function requirementsOf(selector: LabelSelector): Requirement[] {
  const requirements: Requirement[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    requirements.push({ key, operator: "In", values: [value] });
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    requirements.push({ key, operator: operator as Requirement["operator"], values: values ?? [] });
  }
  return requirements;
}

export function matchesRequirements(requirements: readonly Requirement[], labels: Labels): boolean {
  return requirements.every((requirement) => matchesRequirement(requirement, labels));
}

/** An absent selector matches nothing, an empty one everything. */
export function matchesLabelSelector(selector: LabelSelector | undefined, labels: Labels): boolean {
  return selector !== undefined && matchesRequirements(requirementsOf(selector), labels);
}

/** True when every label of `wanted` is there (Service selectors, nodeSelector). */
export function hasLabels(wanted: Labels, labels: Labels): boolean {
  return Object.entries(wanted ?? {}).every(([key, value]) => labels?.[key] === value);
}

export function matchesRequirement({ key, operator, values }: Requirement, labels: Labels): boolean {
  const value = labels?.[key];
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
    case "Lt": {
      if (value === undefined || !/^-?\d+$/.test(value) || !/^-?\d+$/.test(values[0] ?? "")) return false;
      const [left, right] = [BigInt(value), BigInt(values[0] ?? "")];
      return operator === "Gt" ? left > right : left < right;
    }
    default:
      return false;
  }
}

/** The text form, for query parameters and `status.selector`. */
export function formatSelector(selector: readonly Requirement[] | LabelSelector): string {
  const requirements = Array.isArray(selector)
    ? (selector as readonly Requirement[])
    : requirementsOf(selector as LabelSelector);
  return requirements.map(formatRequirement).join(",");
}

function formatRequirement({ key, operator, values }: Requirement): string {
  const list = `(${[...values].sort().join(",")})`;
  switch (operator) {
    case "In":
      return values.length === 1 ? `${key}=${values[0]}` : `${key} in ${list}`;
    case "NotIn":
      return values.length === 1 ? `${key}!=${values[0]}` : `${key} notin ${list}`;
    case "Exists":
      return key;
    case "DoesNotExist":
      return `!${key}`;
    case "Gt":
      return `${key}>${values[0]}`;
    case "Lt":
      return `${key}<${values[0]}`;
  }
}

function parseRequirement(text: string): Requirement {
  const set = /^([^\s!=<>(),]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text);
  if (set)
    return {
      key: set[1]!,
      operator: set[2] === "in" ? "In" : "NotIn",
      values: set[3]!.split(",").map((value) => value.trim()),
    };
  const compared = /^([^\s!=<>(),]+)\s*(==|=|!=|>|<)\s*([^\s!=<>(),]*)$/.exec(text);
  if (compared) {
    const operator = compared[2] === "!=" ? "NotIn" : compared[2] === ">" ? "Gt" : compared[2] === "<" ? "Lt" : "In";
    return { key: compared[1]!, operator, values: [compared[3]!] };
  }
  const exists = /^(!?)\s*([^\s!=<>(),]+)$/.exec(text);
  if (exists) return { key: exists[2]!, operator: exists[1] === "!" ? "DoesNotExist" : "Exists", values: [] };
  throw new Error(`Cannot parse the label selector at "${text}"`);
}

function splitTopLevel(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= text.length; i += 1) {
    const char = text[i];
    if (char === "(") depth += 1;
    else if (char === ")") depth -= 1;
    else if (i === text.length || (char === "," && depth === 0)) {
      const part = text.slice(start, i).trim();
      if (part !== "") parts.push(part);
      start = i + 1;
    }
  }
  return parts;
}
