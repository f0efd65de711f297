/** The printer of a custom resource, made of its `additionalPrinterColumns`. */
import { ageOf } from "./age.ts";
import type { Cell, Column, Printer, Stored } from "./columns.ts";
import { evaluateJsonPath, parseJsonPath } from "./json-path.ts";

export type PrinterColumn = {
  readonly name: string;
  readonly type: string;
  readonly jsonPath: string;
  readonly format?: string;
  readonly description?: string;
  readonly priority?: number;
};

const nameColumn: Column = { name: "Name", type: "string", format: "name", description: "", priority: 0 };

/** Name, then the declared columns; without any, Name and Age. */
export function customPrinter(columns: readonly PrinterColumn[] | undefined): Printer {
  const declared =
    columns && columns.length > 0 ? columns : [{ name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" }];
  const paths = declared.map((column) => parseJsonPath(column.jsonPath));
  return {
    columns: [
      nameColumn,
      ...declared.map((column) => ({
        name: column.name,
        type: column.type as Column["type"],
        format: column.format ?? "",
        description: column.description ?? "",
        priority: column.priority ?? 0,
      })),
    ],
    cells: (object: Stored, now: number) => [
      object.metadata?.name ?? "",
      ...declared.map((column, index) => cell(column.type, evaluateJsonPath(paths[index]!, object), now)),
    ],
  };
}

function cell(type: string, found: readonly unknown[], now: number): Cell {
  const value = found[0];
  if (value === undefined || value === null) return type === "date" ? "<unknown>" : null;
  switch (type) {
    case "date":
      return typeof value === "string" ? ageOf(value, now) : null;
    case "integer":
    case "number":
      return typeof value === "number" ? value : null;
    case "boolean":
      return typeof value === "boolean" ? value : null;
    default:
      if (found.length > 1) return found.map(text).join(",");
      return text(value);
  }
}

function text(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
