/** Writes tar archives (ustar, GNU long names): layers and image archives are made of them. The same files give the same bytes. */
import { lstatSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";

export type TarEntry = {
  /** Relative, without a leading slash. */
  readonly path: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
} & (
  | { readonly type: "directory" }
  | { readonly type: "link"; readonly to: string }
  | { readonly type: "file"; readonly data: Buffer }
);

/** A folder of the machine as entries below `into`; sockets, devices and pipes are left out. */
export function folderEntries(folder: string, into = ""): TarEntry[] {
  return readdirSync(folder)
    .sort()
    .flatMap((name): TarEntry[] => {
      const from = join(folder, name);
      const path = into ? `${into}/${name}` : name;
      const seen = lstatSync(from);
      const owner = { path, mode: seen.mode & 0o7777, uid: seen.uid, gid: seen.gid };
      if (seen.isSymbolicLink()) return [{ ...owner, type: "link", to: readlinkSync(from) }];
      if (seen.isDirectory()) return [{ ...owner, type: "directory" }, ...folderEntries(from, path)];
      return seen.isFile() ? [{ ...owner, type: "file", data: readFileSync(from) }] : [];
    });
}

export function tar(entries: readonly TarEntry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const path = entry.type === "directory" ? `${entry.path}/` : entry.path;
    const link = entry.type === "link" ? entry.to : "";
    const data = entry.type === "file" ? entry.data : Buffer.alloc(0);
    return [
      ...(Buffer.byteLength(path) > 100 ? longName("L", path) : []),
      ...(Buffer.byteLength(link) > 100 ? longName("K", link) : []),
      header(path, {
        kind: kinds[entry.type],
        link,
        size: data.length,
        mode: entry.mode ?? defaultModes[entry.type],
        uid: entry.uid ?? 0,
        gid: entry.gid ?? 0,
      }),
      ...padded(data),
    ];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const kinds = { file: "0", link: "2", directory: "5" } as const;
const defaultModes = { file: 0o644, link: 0o777, directory: 0o755 } as const;

function longName(kind: "L" | "K", name: string): Buffer[] {
  const data = Buffer.from(`${name}\0`);
  return [header("././@LongLink", { kind, link: "", size: data.length, mode: 0, uid: 0, gid: 0 }), ...padded(data)];
}

function padded(data: Buffer): Buffer[] {
  return data.length === 0 ? [] : [data, Buffer.alloc((512 - (data.length % 512)) % 512)];
}

function header(
  path: string,
  of: { kind: string; link: string; size: number; mode: number; uid: number; gid: number },
): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at);
  block.write(path.slice(0, 100), 0);
  octal(of.mode, 100, 8);
  octal(of.uid, 108, 8);
  octal(of.gid, 116, 8);
  octal(of.size, 124, 12);
  octal(0, 136, 12); // no time: an archive depends on its content alone
  block.write("        ", 148);
  block.write(of.kind, 156);
  block.write(of.link.slice(0, 100), 157);
  block.write("ustar\x0000", 257, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
