/**
 * Lays out the Debian packages that images bring along (`.build/images/<layer>/usr`): downloaded and unpacked, never installed,
 * so no service starts on the machine and nothing of it changes. `node packages/images/build.ts <repository>`; done layers are skipped.
 */
import { execFileSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync, chmodSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const layers: Readonly<Record<string, string>> = { mysql: "mariadb-server-core", postgres: "postgresql-15" };

const repository = process.argv[2];
if (!repository) throw new Error("usage: build.ts <repository>");
for (const [layer, debianPackage] of Object.entries(layers)) {
  const target = join(repository, ".build/images", layer);
  if (existsSync(join(target, "usr"))) continue;
  console.error(`underlay: laying out ${debianPackage} for the ${layer} image`);
  build(target, debianPackage);
}

function build(target: string, debianPackage: string): void {
  const folder = mkdtempSync(join(tmpdir(), "underlay-image-"));
  try {
    chmodSync(folder, 0o755);
    const unpacked = join(folder, "unpacked");
    mkdirSync(unpacked);
    execFileSync("apt-get", ["download", "-qq", "-o", "APT::Sandbox::User=root", ...missingPackages(debianPackage)], {
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"], // its warnings are about the machine's sources; an error carries them
    });
    for (const file of globSync("*.deb", { cwd: folder }))
      execFileSync("dpkg-deb", ["-x", join(folder, file), unpacked]);
    rmSync(target, { recursive: true, force: true });
    mkdirSync(join(target, ".."), { recursive: true });
    // Bitcode of the JIT and translations are most of the size and never read here.
    for (const unused of ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/postgresql/15/lib/bitcode"])
      rmSync(join(unpacked, unused), { recursive: true, force: true });
    execFileSync("cp", ["-a", unpacked, `${target}.new`]);
    renameSync(`${target}.new`, target);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The package and those of its dependencies this machine lacks: apt's own simulation says which. */
function missingPackages(debianPackage: string): string[] {
  const plan = execFileSync("apt-get", ["-s", "--no-install-recommends", "install", debianPackage], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const missing = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] ?? "");
  // Libraries only: helpers of the packages' own scripts and the compiler of PostgreSQL's JIT are not used here.
  const libraries = missing.filter((name) => name.startsWith("lib") && !/^lib(llvm|z3)|perl|-dev$/.test(name));
  return [...new Set([debianPackage, ...libraries])];
}
