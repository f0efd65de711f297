/** Label selectors, as the API's documentation words them. Written for reading, and apart from the client's own selectors. */
export type Selector = {
  readonly matchLabels?: Readonly<Record<string, string>> | undefined;
  readonly matchExpressions?:
    | readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] | undefined }[]
    | undefined;
};

/** Every label and every expression has to hold; the empty selector holds for everything. */
export function selects(selector: Selector, labels: Readonly<Record<string, string>> = {}): boolean {
  for (const key in selector.matchLabels ?? {}) {
    if (labels[key] !== selector.matchLabels?.[key]) return false;
  }
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = labels[key];
    const listed = value !== undefined && values.includes(value);
    if (operator === "In" && !listed) return false;
    // A missing key satisfies both negative operators.
    if (operator === "NotIn" && listed) return false;
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
  }
  return true;
}
