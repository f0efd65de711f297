/** Finds keys given twice in JSON text, which `JSON.parse` hides: `spec.mode`. One pass, no values built. */
export function duplicateKeys(text: string): string[] {
  const found: string[] = [];
  let at = 0;
  const space = (): void => {
    while (at < text.length && text.charCodeAt(at) <= 32) at++;
  };
  const string = (): string => {
    const start = at++;
    while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    at++;
    const raw = text.slice(start, at);
    return raw.includes("\\") ? (JSON.parse(raw) as string) : raw.slice(1, -1);
  };
  const value = (path: string): void => {
    space();
    if (text[at] === "{") {
      const seen = new Set<string>();
      at++;
      for (space(); at < text.length && text[at] !== "}"; space()) {
        const key = string();
        const here = path === "" ? key : `${path}.${key}`;
        if (seen.has(key) && !found.includes(here)) found.push(here);
        seen.add(key);
        space();
        at++; // the colon
        value(here);
        space();
        if (text[at] === ",") at++;
      }
      at++;
    } else if (text[at] === "[") {
      at++;
      let index = 0;
      for (space(); at < text.length && text[at] !== "]"; space()) {
        value(`${path}[${index++}]`);
        space();
        if (text[at] === ",") at++;
      }
      at++;
    } else if (text[at] === '"') string();
    else while (at < text.length && !",]}".includes(text[at]!)) at++;
  };
  value("");
  return found;
}
