/** What a service of the cloud is to the protocol: a name, and an operation per action it really performs. */
import type { ModelTable, ServiceName } from "@underlay/aws/model";
import type { Principal } from "./authentication.ts";

export type Call = {
  readonly action: string;
  readonly requestId: string;
  readonly principal: Principal;
};

export type Operation = {
  /** The input members the operation honours. Others are refused by name, never ignored. */
  readonly takes: readonly string[];
  /** Runs inside one store transaction, synchronously: what throws leaves no trace. */
  run(input: never, call: Call): Record<string, unknown>;
  /** True when it only reads: no transaction, nothing to wait for. */
  readonly reads: boolean;
};

export type Service = {
  readonly name: ServiceName;
  readonly table: ModelTable;
  readonly operations: Readonly<Record<string, Operation>>;
};

/** The operations of one file, typed by the service's generated actions. */
export type OperationsOf<Actions extends Record<string, { input: unknown; output: unknown }>> = {
  [A in keyof Actions & string]?: {
    takes: readonly (keyof Actions[A]["input"] & string)[];
    run(input: Actions[A]["input"], call: Call): Actions[A]["output"];
  };
};

const readingVerbs = /^(Describe|List|Get)/;

/** Puts the operations of several files together; an action in two of them is a mistake. */
export function serviceOf(name: ServiceName, table: ModelTable, ...parts: readonly object[]): Service {
  const operations: Record<string, Operation> = {};
  for (const part of parts)
    for (const [action, operation] of Object.entries(part)) {
      if (operations[action] !== undefined) throw new Error(`two operations for ${name} ${action}`);
      operations[action] = { ...(operation as Omit<Operation, "reads">), reads: readingVerbs.test(action) };
    }
  return { name, table, operations };
}
