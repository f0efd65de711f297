/**
 * Server-side tables (`as=Table;g=meta.k8s.io`): what `kubectl get` shows.
 *
 * Finds the printer of a resource and wraps stored objects in the `Table` kind. Age cells are texts of the moment, as
 * upstream's. Never here: content negotiation (routes). Read next: `core-printers.ts`, `pod-status.ts`, `custom-printer.ts`.
 */
import type { ApiObject } from "../api-object.ts";
import type { CustomKind, ResourceInfo } from "../resource-info.ts";
import type { Seams, TableOptions } from "../seams.ts";
import { ageOf } from "./age.ts";
import { printer, type Printer } from "./columns.ts";
import { corePrinters } from "./core-printers.ts";
import { customPrinter } from "./custom-printer.ts";
import { groupPrinters } from "./group-printers.ts";

const nameAndAge = printer("Name|Age", (o, now) => [o.metadata?.name ?? "", ageOf(o.metadata?.creationTimestamp, now)]);

/** The tables seam. */
export function createTables(): Pick<Seams, "renderTable"> {
  const custom = new WeakMap<CustomKind, Printer>();
  function printerOf(info: ResourceInfo): Printer {
    if (!info.custom) return printerFor(info.group, info.plural);
    let made = custom.get(info.custom);
    if (!made) custom.set(info.custom, (made = customPrinter(info.custom.printerColumns)));
    return made;
  }
  return {
    renderTable: (info, objects, listMetadata, options) => tableOf(printerOf(info), objects, listMetadata, options),
  };
}

/** The printer of a built-in resource; Name and Age where there is no better one. */
export function printerFor(group: string, resource: string): Printer {
  if (group === "events.k8s.io" && resource === "events") return corePrinters["events"]!;
  return (group === "" ? corePrinters[resource] : groupPrinters[`${group}/${resource}`]) ?? nameAndAge;
}

/** A `Table` of the given objects. */
export function tableOf(
  printed: Printer,
  objects: readonly ApiObject[],
  listMetadata: Record<string, unknown>,
  options: TableOptions,
): Record<string, unknown> {
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${options.version}`,
    metadata: listMetadata,
    columnDefinitions: options.columnDefinitions ? printed.columns : null,
    rows: objects.map((object) => ({
      cells: printed.cells(object, options.now),
      object: rowObject(object, options),
    })),
  };
}

function rowObject(object: ApiObject, options: TableOptions): unknown {
  switch (options.includeObject) {
    case "None":
      return null;
    case "Object":
      return object;
    case "Metadata":
      return { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${options.version}`, metadata: object.metadata };
  }
}
