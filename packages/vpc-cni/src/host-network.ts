/**
 * The node's side of the data plane: `ip rule`, the tables of secondary ENIs. Desired state goes in, the difference is
 * applied; a second call changes nothing. Per-pod plumbing is in `pod-network.ts`, SNAT and marks in `host-firewall.ts`.
 */
import { nthAddress } from "@underlay/addr/cidr";
import { isExists, isNotFound } from "@underlay/kernel/errors";
import { closeFd } from "@underlay/kernel/fds";
import { openNetns, type Netns } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import type { Change, Link, Rule } from "@underlay/kernel/rtnetlink-types";
import type { Log } from "@underlay/log/log";
import type { Clock } from "./clock.ts";
import { diffRules, eniRule, nodeRules, podRules, priority, ruleText } from "./ip-rules.ts";
import { mainTable, routeTableOf } from "./names.ts";

export type EniLink = {
  readonly eniId: string;
  readonly mac: string;
  readonly deviceNumber: number;
  readonly primaryAddress: string;
  readonly subnetCidr: string;
};

export class HostNetwork {
  readonly netns: Netns | undefined;
  /** The node's namespace as a descriptor: where the peers of pods' links are born. */
  readonly netnsFd: number;
  readonly rtnl: Rtnl;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(options: { netns?: Netns; clock: Clock; log: Log }) {
    this.netns = options.netns;
    this.netnsFd = openNetns(options.netns ?? "/proc/thread-self/ns/net");
    this.rtnl = Rtnl.open(options.netns);
    this.#clock = options.clock;
    this.#log = options.log;
  }

  close(): void {
    this.rtnl.close();
    closeFd(this.netnsFd);
  }

  findLinkByMac(mac: string): Link | undefined {
    return this.rtnl.listLinks().find((link) => link.mac === mac && link.kind !== "macvlan" && link.kind !== "vlan");
  }

  /** The primary ENI's link keeps the address and routes the OS gave it; only its MTU is ours. */
  setUpPrimary(mac: string, mtu: number): Link {
    const link = this.findLinkByMac(mac);
    if (!link) throw new Error(`Cannot set up the primary network interface: no link has MAC ${mac}`);
    if (link.mtu !== mtu) this.rtnl.apply({ do: "set-link", name: link.name, mtu });
    return link;
  }

  /** Mark and external-service rules, and the pods' rules; rules of pods that are gone are removed. */
  setRules(
    settings: Parameters<typeof nodeRules>[0],
    pods: readonly { readonly address: string; readonly routeTable: number }[],
  ): void {
    const desired = [...nodeRules(settings), ...pods.flatMap((pod) => podRules(pod.address, pod.routeTable))];
    const owned = [priority.toPod, priority.connmark, priority.externalService, priority.fromPod];
    const changes = diffRules(this.rtnl.listRules(4), desired, owned);
    if (changes.length > 0) this.#log.info("changing ip rules", { changes: changes.map(describeRuleChange) });
    this.#applyTolerant(changes);
  }

  /** A secondary ENI: address, its own table, and the rule that sends its own traffic there. */
  async setUpEni(eni: EniLink, mtu: number): Promise<void> {
    const link = await this.#awaitLink(eni);
    const table = routeTableOf(eni.deviceNumber);
    const prefixLength = eni.subnetCidr.split("/")[1] ?? "32";
    const gateway = nthAddress(eni.subnetCidr, 1);
    const wanted = `${eni.primaryAddress}/${prefixLength}`;

    const addresses = this.rtnl.listAddresses({ family: 4, dev: link.name });
    const foreign = addresses.filter((one) => one.scope === "global" && one.address !== wanted);
    this.rtnl.apply({ do: "set-link", name: link.name, mtu, up: true });
    this.#applyTolerant([
      ...foreign.map((one): Change => ({ do: "delete-address", address: one.address, dev: link.name })),
      ...(addresses.some((one) => one.address === wanted)
        ? []
        : [{ do: "add-address", address: wanted, dev: link.name } satisfies Change]),
    ]);
    this.rtnl.apply(
      { do: "replace-route", to: `${gateway}/32`, dev: link.name, scope: "link", table },
      { do: "replace-route", to: "default", via: gateway, dev: link.name, table },
    );
    // The kernel's own subnet route in main would send same-subnet traffic out of this ENI with another's address.
    const connected = this.rtnl
      .listRoutes({ family: 4, table: mainTable })
      .filter((route) => route.to === eni.subnetCidr && route.src === eni.primaryAddress);
    this.#applyTolerant([
      ...connected.map((route): Change => ({ do: "delete-route", ...route })),
      { do: "add-rule", ...eniRule(eni.primaryAddress, table) },
    ]);
  }

  /** After an ENI is gone: its 32765 rule. Its routes and address went with its link. */
  removeEniRule(routeTable: number): void {
    const rules = this.rtnl
      .listRules(4)
      .filter((rule) => rule.priority === priority.fromEni && rule.table === routeTable);
    this.#applyTolerant(rules.map((rule): Change => ({ do: "delete-rule", ...rule })));
  }

  /** Names of the links pods hang on, to tell living pods from a checkpoint's stale ones. */
  linkNames(): ReadonlySet<string> {
    return new Set(this.rtnl.listLinks().map((link) => link.name));
  }

  /** The last 11 characters of every link's name: what identifies a pod whatever the prefix. */
  podSuffixes(): ReadonlySet<string> {
    return new Set([...this.linkNames()].map((name) => name.slice(-11)));
  }

  async #awaitLink(eni: EniLink): Promise<Link> {
    for (let attempt = 1; ; attempt++) {
      const link = this.findLinkByMac(eni.mac);
      if (link) return link;
      if (attempt === 5) throw new MissingLinkError(eni);
      await this.#clock.sleep(3000);
    }
  }

  #applyTolerant(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    for (const error of this.rtnl.tryApply([...changes]))
      if (error && !isExists(error) && !isNotFound(error)) throw error;
  }
}

export class MissingLinkError extends Error {
  constructor(eni: EniLink) {
    super(`Cannot set up ${eni.eniId} (device ${eni.deviceNumber}): no link has MAC ${eni.mac}`);
    this.name = "MissingLinkError";
  }
}

function describeRuleChange(change: Change): string {
  return `${change.do} ${ruleText(change as Rule & Change)}`;
}
