/** Validation of the built-in kinds by `<group>/<Kind>`. */
import type { FieldError } from "../../api-error.ts";
import type { ApiObject } from "../../api-object.ts";

export type Validate = (object: ApiObject, old: ApiObject | undefined) => FieldError[];

export const validations: Readonly<Record<string, Validate>> = {};
