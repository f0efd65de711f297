/**
 * Server-side tables (`as=Table;g=meta.k8s.io`): what `kubectl get` shows.
 *
 * `printerFor` finds the columns of a resource; `tableOf` wraps stored objects in the `Table` kind. Age cells are texts of the
 * moment, as upstream's. Never here: content negotiation (routes). Read next: `core-printers.ts`, `pod-status.ts`.
 */
import { ageOf } from "./age.ts";
import { printer, type Printer, type Stored } from "./columns.ts";
import { corePrinters } from "./core-printers.ts";
import { groupPrinters } from "./group-printers.ts";

export { customPrinter, type PrinterColumn } from "./custom-printer.ts";
export type { Cell, Column, Printer } from "./columns.ts";

const nameAndAge = printer("Name|Age", (o, now) => [o.metadata?.name ?? "", ageOf(o.metadata?.creationTimestamp, now)]);

/** The printer of a built-in resource; Name and Age where there is no better one. */
export function printerFor(group: string, resource: string): Printer {
  if (group === "events.k8s.io" && resource === "events") return corePrinters["events"]!;
  return (group === "" ? corePrinters[resource] : groupPrinters[`${group}/${resource}`]) ?? nameAndAge;
}

export type TableOptions = {
  readonly version: "v1" | "v1beta1";
  readonly includeObject: "None" | "Metadata" | "Object";
  /** Column definitions go out with a list and with the first event of a watch only. */
  readonly withColumns: boolean;
  /** `metadata` of the answered list, or `{resourceVersion}` of the one object. */
  readonly listMeta: Record<string, unknown>;
  readonly now: number;
};

/** A `Table` of the given objects. */
export function tableOf(printed: Printer, objects: readonly object[], options: TableOptions): Record<string, unknown> {
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${options.version}`,
    metadata: options.listMeta,
    columnDefinitions: options.withColumns ? printed.columns : null,
    rows: objects.map((object) => ({
      cells: printed.cells(object, options.now),
      object: rowObject(object, options),
    })),
  };
}

function rowObject(object: Stored, options: TableOptions): unknown {
  switch (options.includeObject) {
    case "None":
      return null;
    case "Object":
      return object;
    case "Metadata":
      return { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${options.version}`, metadata: object.metadata };
  }
}
