/**
 * The init container `aws-vpc-cni-init`: puts the plugin executables on the host and sets the sysctls the data plane depends
 * on. Privileged, in the host's network.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createImdsClient, imdsEndpoint } from "@underlay/aws/imds-client";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { writeSysctl } from "@underlay/kernel/sysctl";
import { createLog } from "@underlay/log/log";
import { installPlugin, installReferencePlugins } from "./install.ts";
import { describeFailure } from "./failure.ts";
import { parseInitSettings } from "./settings.ts";

const log = createLog("aws-vpc-cni-init");
const pluginProgram = fileURLToPath(new URL("../../../.build/lua/aws-cni.lua", import.meta.url));

async function main(): Promise<void> {
  const settings = parseInitSettings(process.env);
  installPlugin(settings.hostCniBinPath, pluginProgram);
  const missing = installReferencePlugins(settings.hostCniBinPath);
  if (missing.length > 0) {
    log.warn("reference plugins are missing", {
      missing,
      hint: "install the Debian package containernetworking-plugins",
    });
  }

  const imds = createImdsClient({ endpoint: imdsEndpoint(process.env) });
  const mac = (await imds.get("meta-data/mac"))?.trim().toLowerCase();
  const rtnl = Rtnl.open();
  const primary = rtnl.listLinks().find((link) => link.mac === mac);
  rtnl.close();
  imds.close();
  if (!primary) throw new Error(`Cannot find the primary network interface: no link has MAC ${mac}`);
  // Loose: a NodePort reply comes in on the primary ENI for a pod whose table points elsewhere.
  writeSysctl(undefined, `net/ipv4/conf/${primary.name}/rp_filter`, 2);
  if (existsSync("/proc/sys/net/ipv4/tcp_early_demux")) {
    writeSysctl(undefined, "net.ipv4.tcp_early_demux", settings.disableTcpEarlyDemux ? 0 : 1);
  }
  log.info("initialised the node", { primary: primary.name, binDir: settings.hostCniBinPath });
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${describeFailure(error)}\n`);
  process.exit(1);
}
