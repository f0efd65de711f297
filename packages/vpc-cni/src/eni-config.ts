/**
 * Custom networking: which ENIConfig a node uses and what it says. Pure.
 *
 * Precedence of the name: label `vpc.amazonaws.com/externalEniConfig`, the annotation, the label (both keys are settings;
 * the label is often `topology.kubernetes.io/zone`), the name `default`.
 */
import type { Settings } from "./settings.ts";

export type EniConfig = {
  readonly name: string;
  readonly subnetId: string;
  /** Empty: those of the primary ENI. */
  readonly securityGroups: readonly string[];
};

export type EniConfigAnswer =
  | { readonly ok: true; readonly config: EniConfig }
  | { readonly ok: false; readonly why: string };

type Metadata = {
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
};

const externalLabel = "vpc.amazonaws.com/externalEniConfig";

/** The name, and in words where it comes from. */
export function eniConfigNameOf(
  node: Metadata,
  settings: Pick<Settings, "eniConfigAnnotation" | "eniConfigLabel">,
): { readonly name: string; readonly from: string } {
  const { labels = {}, annotations = {} } = node;
  const external = labels[externalLabel];
  if (external) return { name: external, from: `label ${externalLabel}` };
  const annotated = annotations[settings.eniConfigAnnotation];
  if (annotated) return { name: annotated, from: `annotation ${settings.eniConfigAnnotation}` };
  const labelled = labels[settings.eniConfigLabel];
  if (labelled) return { name: labelled, from: `label ${settings.eniConfigLabel}` };
  return { name: "default", from: "neither an annotation nor a label names one" };
}

/** The node's ENIConfig, or one sentence on why it cannot be used. */
export function findEniConfig(
  node: Metadata | undefined,
  settings: Pick<Settings, "eniConfigAnnotation" | "eniConfigLabel">,
  find: (name: string) => { readonly spec?: unknown } | undefined,
): EniConfigAnswer {
  if (!node) return { ok: false, why: "the Node object is not known yet, so nothing says which ENIConfig is its own" };
  const { name, from } = eniConfigNameOf(node, settings);
  const found = find(name);
  if (!found) return { ok: false, why: `ENIConfig "${name}" does not exist (${from})` };
  const spec = (found.spec ?? {}) as { subnet?: unknown; securityGroups?: unknown };
  if (typeof spec.subnet !== "string" || spec.subnet === "")
    return { ok: false, why: `ENIConfig "${name}" names no subnet (spec.subnet)` };
  const groups = Array.isArray(spec.securityGroups) ? spec.securityGroups : [];
  const securityGroups = groups.filter((group): group is string => typeof group === "string");
  return { ok: true, config: { name, subnetId: spec.subnet, securityGroups } };
}
