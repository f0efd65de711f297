/** What a table printer is: its columns and, for one object, the cells of its row. */

import type { Stored } from "../stored.ts";

export type Cell = string | number | boolean | null;

export type Column = {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly format: string;
  readonly description: string;
  /** 0 is always shown, greater only with `-o wide`. */
  readonly priority: number;
};

export type { Stored };

export type Printer = {
  readonly columns: readonly Column[];
  readonly cells: (object: Stored, now: number) => Cell[];
};

/**
 * A printer from compact text: column names separated by "|", `*` behind a name for `-o wide` only, `#` for integers.
 * The first column is always the object's name.
 */
export function printer(names: string, cells: (object: Stored, now: number) => Cell[]): Printer {
  const columns = names.split("|").map((text, index): Column => {
    const wide = text.includes("*");
    const integer = text.includes("#");
    return {
      name: text.replace(/[*#]/g, ""),
      type: integer ? "integer" : "string",
      format: index === 0 && text === "Name" ? "name" : "",
      description: "",
      priority: wide ? 1 : 0,
    };
  });
  return { columns, cells };
}
