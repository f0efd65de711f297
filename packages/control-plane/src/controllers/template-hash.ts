/** Equality and hashes of pod templates, blind to nulls, emptiness and key order, as they differ between clients. */
import type { PodTemplateSpec } from "@underlay/kube/objects";

const alphabet = "bcdfghjklmnpqrstvwxz2456789";

/** The value as text: sorted keys; null, {} and [] dropped, except selectors, where empty means everything. */
export function canonical(value: unknown): string {
  return JSON.stringify(simplify(value)) ?? "";
}

function simplify(value: unknown): unknown {
  if (value === null) return undefined;
  if (Array.isArray(value)) {
    const items = value.map(simplify).filter((item) => item !== undefined);
    return items.length === 0 ? undefined : items;
  }
  if (typeof value !== "object") return value;
  const result: Record<string, unknown> = {};
  for (const key of Object.keys(value).sort()) {
    const simple = simplify((value as Record<string, unknown>)[key]);
    if (simple !== undefined) result[key] = simple;
    else if (key.endsWith("Selector") && (value as Record<string, unknown>)[key]) result[key] = {};
  }
  return Object.keys(result).length === 0 ? undefined : result;
}

/** Equal but for the label pod-template-hash. */
export function equalTemplates(a: PodTemplateSpec, b: PodTemplateSpec): boolean {
  return canonical(withoutHash(a)) === canonical(withoutHash(b));
}

function withoutHash(template: PodTemplateSpec): PodTemplateSpec {
  const { "pod-template-hash": _, ...labels } = template.metadata?.labels ?? {};
  return { ...template, metadata: { ...template.metadata, labels } };
}

/** A short name-safe hash (FNV-1a, 32 bits); collisionCount moves it to another value. */
export function hashOf(value: unknown, collisionCount?: number): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(canonical(value) + (collisionCount ? `#${collisionCount}` : ""))) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return [...String(hash)].map((digit) => alphabet[digit.charCodeAt(0) % alphabet.length]).join("");
}
