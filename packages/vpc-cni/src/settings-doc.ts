/** `docs/settings.md`, from the table that parses the settings. Pure. */
import { groups, variables, type Variable } from "./settings-table.ts";

export function formatSettingsDoc(): string {
  const sections = Object.entries(groups).map(([group, title]) => {
    const rows = Object.entries(variables as Record<string, Variable>)
      .filter(([, variable]) => variable.group === group)
      .map(
        ([name, variable]) =>
          `| \`${name}\` | ${defaultOf(variable)} | ${valuesOf(variable)} | ${effectOf(variable)} |`,
      );
    return [`## ${title}`, "", "| variable | default | values | effect |", "|---|---|---|---|", ...rows, ""].join("\n");
  });
  return [
    "# Settings of aws-node",
    "",
    "Environment variables of the `aws-node` container, under upstream's names (Amazon VPC CNI v1.23.1).",
    "Written from `packages/vpc-cni/src/settings-table.ts` by `node tools/write-settings-doc.ts`; do not edit.",
    "",
    "Set one with `kubectl -n kube-system set env daemonset/aws-node NAME=value`. A boolean takes Go's words",
    "(1 t T TRUE true True, 0 f F FALSE false False). An empty value is as good as none. A value that is none of those listed",
    "is replaced by the default with a line in the log, unless it says that aws-node refuses to start.",
    "",
    ...sections,
  ].join("\n");
}

function defaultOf(variable: Variable): string {
  if (variable.kind === "ignored") return "";
  const code = variable.fallback === "" ? "empty" : `\`${variable.fallback}\``;
  return variable.chart === undefined ? code : `${code}; the add-on sets \`${variable.chart}\``;
}

function valuesOf(variable: Variable): string {
  const refused = "refuse" in variable && variable.refuse ? "; refuses to start otherwise" : "";
  switch (variable.kind) {
    case "boolean":
      return "boolean";
    case "text":
      return "text";
    case "integer":
      return `${variable.most === undefined ? `${variable.least} and up` : `${variable.least} to ${variable.most}`}${refused}`;
    case "choice":
      return variable.choices.map((choice) => `\`${choice}\``).join(", ");
    case "special":
      return variable.values + refused;
    case "ignored":
      return "any";
  }
}

function effectOf(variable: Variable): string {
  if (variable.kind === "ignored") return `None: ${variable.why}.`;
  return variable.unbuilt === undefined ? variable.effect : `${variable.effect} Not built yet: refuses to start.`;
}
