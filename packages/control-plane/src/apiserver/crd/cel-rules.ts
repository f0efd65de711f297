/** `x-kubernetes-validations` of a structural schema: which rules a value breaks. */
import type { ParseResult } from "@marcbachmann/cel-js";
import { isDeepStrictEqual } from "node:util";
import type { FieldError, FieldErrorType } from "../api-error.ts";
import { celEnvironment } from "../cel/environment.ts";
import { celValue } from "../cel/cel-value.ts";
import type { Schema } from "./prune-default.ts";
import { correlator, join, propertySchema } from "./validate.ts";

type Rule = {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly reason?: string;
  readonly fieldPath?: string;
  readonly optionalOldSelf?: boolean;
};

const compiled = new Map<string, ParseResult>();
const holding = new WeakMap<Schema, boolean>();
const reasons: Readonly<Record<string, FieldErrorType>> = {
  FieldValueInvalid: "Invalid",
  FieldValueForbidden: "Forbidden",
  FieldValueRequired: "Required",
  FieldValueDuplicate: "Duplicate",
};

/** The broken rules of `value` and everything below it. */
export function checkRules(value: unknown, schema: Schema, path: string, old?: unknown): FieldError[] {
  const errors: FieldError[] = [];
  walk(value, schema, path, old, errors);
  return errors;
}

/** Parses an expression; throws on syntax errors. */
export function compileRule(expression: string): ParseResult {
  let parsed = compiled.get(expression);
  if (!parsed) compiled.set(expression, (parsed = celEnvironment().parse(expression)));
  return parsed;
}

/** Has a schema rules anywhere: most have none, and their values are not walked. */
export function hasRules(schema: Schema): boolean {
  const known = holding.get(schema);
  if (known !== undefined) return known;
  const below = [
    ...Object.values<Schema>(schema["properties"] ?? {}),
    ...(schema["items"] ? [schema["items"]] : []),
    ...(typeof schema["additionalProperties"] === "object" ? [schema["additionalProperties"]] : []),
  ];
  const found = (schema["x-kubernetes-validations"] ?? []).length > 0 || below.some(hasRules);
  holding.set(schema, found);
  return found;
}

function walk(value: unknown, schema: Schema, path: string, old: unknown, errors: FieldError[]): void {
  if (value === undefined || value === null || !hasRules(schema)) return;
  const rules: Rule[] = schema["x-kubernetes-validations"] ?? [];
  if (rules.length > 0) {
    const unchanged = old !== undefined && isDeepStrictEqual(old, value);
    const self = celValue(value, schema);
    const oldSelf = old === undefined ? undefined : celValue(old, schema);
    for (const rule of rules) {
      const error = evaluate(rule, self, oldSelf, schema, path);
      if (error && !(unchanged && !/\boldSelf\b/.test(rule.rule))) errors.push(error);
    }
  }
  if (Array.isArray(value)) {
    const correlate = correlator(schema, old);
    for (const [index, item] of value.entries())
      walk(item, schema["items"] ?? {}, `${path}[${index}]`, correlate(item), errors);
  } else if (typeof value === "object") {
    const before = old !== null && typeof old === "object" ? (old as Record<string, unknown>) : undefined;
    for (const [name, property] of Object.entries(value)) {
      const next = propertySchema(schema, name);
      if (next)
        walk(
          property,
          next,
          join(path, name, !Object.hasOwn(schema["properties"] ?? {}, name)),
          before?.[name],
          errors,
        );
    }
  }
}

function evaluate(rule: Rule, self: unknown, oldSelf: unknown, schema: Schema, path: string): FieldError | undefined {
  const context: Record<string, unknown> = { self };
  if (/\boldSelf\b/.test(rule.rule)) {
    if (rule.optionalOldSelf) {
      context["oldSelf"] = celEnvironment().evaluate(oldSelf === undefined ? "optional.none()" : "optional.of(v)", {
        v: oldSelf ?? null,
      });
    } else if (oldSelf === undefined) return undefined;
    else context["oldSelf"] = oldSelf;
  }
  const type = reasons[rule.reason ?? "FieldValueInvalid"] ?? "Invalid";
  const field = rule.fieldPath ? path + (path === "" ? rule.fieldPath.replace(/^\./, "") : rule.fieldPath) : path;
  const value = schema["type"] ?? "object";
  try {
    if (compileRule(rule.rule)(context) === true) return undefined;
  } catch (error) {
    return { type: "Invalid", field, value, detail: `rule evaluation error: ${firstLine(error)}: ${rule.rule}` };
  }
  return { type, field: field === "" ? "<nil>" : field, value, detail: messageOf(rule, context) };
}

function messageOf(rule: Rule, context: Record<string, unknown>): string {
  if (rule.messageExpression) {
    try {
      const message: unknown = compileRule(rule.messageExpression)(context);
      if (typeof message === "string" && message.trim() !== "" && !message.includes("\n")) return message;
    } catch {
      // Upstream falls back to the plain message when the expression fails.
    }
  }
  return rule.message?.trim() || `failed rule: ${rule.rule}`;
}

const firstLine = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
