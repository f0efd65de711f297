/**
 * Reads and writes the XML that AWS's query services speak: elements and text; attributes, comments and processing
 * instructions are skipped. It is all they send, and a general parser costs each process 4 MB.
 */
export type XmlElement = { readonly name: string; readonly children: XmlElement[]; text: string };

const entities: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };
const token =
  /<!\[CDATA\[([\s\S]*?)\]\]>|<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<!DOCTYPE[^>]*>|<(\/?)([^\s/>]+)[^>]*?(\/?)>|([^<]+)/g;

/** The root element. Throws a SyntaxError naming the place when tags do not match. */
export function parseXml(text: string): XmlElement {
  const root: XmlElement = { name: "", children: [], text: "" };
  const open: XmlElement[] = [root];
  let end = 0;
  for (const match of text.matchAll(token)) {
    if (match.index !== end) throw new SyntaxError(`Cannot read XML: stray "<" at character ${end}`);
    end = match.index + match[0].length;
    const [, cdata, closing, name, selfClosing, characters] = match;
    const top = open.at(-1) as XmlElement;
    if (cdata !== undefined) top.text += cdata;
    else if (characters !== undefined) top.text += unescapeXml(characters);
    else if (name === undefined) continue;
    else if (closing === "/") {
      if (open.length === 1 || top.name !== localName(name))
        throw new SyntaxError(`Cannot read XML: </${name}> closes <${top.name}>`);
      open.pop();
    } else {
      const element: XmlElement = { name: localName(name), children: [], text: "" };
      top.children.push(element);
      if (selfClosing !== "/") open.push(element);
    }
  }
  if (end !== text.length || open.length !== 1)
    throw new SyntaxError(`Cannot read XML: it ends inside <${open.at(-1)?.name ?? ""}>`);
  const [first] = root.children;
  if (first === undefined) throw new SyntaxError("Cannot read XML: no element");
  return first;
}

export function childOf(element: XmlElement, name: string): XmlElement | undefined {
  return element.children.find((child) => child.name === name);
}

/** Text as element content; characters that XML 1.0 cannot hold become U+FFFD. */
export function escapeXml(text: string): string {
  // oxlint-disable-next-line no-control-regex -- these are the characters that XML 1.0 cannot hold
  return text.replace(/[<>&"\r\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, (c) => {
    if (c === "<") return "&lt;";
    if (c === ">") return "&gt;";
    if (c === "&") return "&amp;";
    if (c === '"') return "&quot;";
    if (c === "\r") return "&#xD;";
    return "\ufffd";
  });
}

function unescapeXml(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(/&(#x[0-9a-fA-F]+|#\d+|\w+);/g, (whole, body: string) => {
    if (body.startsWith("#x")) return String.fromCodePoint(Number.parseInt(body.slice(2), 16));
    if (body.startsWith("#")) return String.fromCodePoint(Number(body.slice(1)));
    return entities[body] ?? whole;
  });
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}
