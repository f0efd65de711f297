/**
 * ENIs through the EC2 API: create, attach, address, detach, delete, with upstream's tags, retries and order of calls.
 * A crash between two calls leaves at worst an unattached ENI with our tags, which the leaked-ENI cleanup deletes.
 */
import { isAwsError } from "@underlay/aws/aws-error";
import type { Ec2Client } from "@underlay/aws/ec2-client";
import type { Ec2Actions, NetworkInterface } from "@underlay/aws/generated/ec2-types";
import type { Log } from "@underlay/log/log";
import { retry, type Clock } from "./clock.ts";
import type { Instance } from "./instance-metadata.ts";
import type { Metrics } from "./metrics.ts";
import type { Settings } from "./settings.ts";
import { chooseSubnets, type SubnetView } from "./subnet-choice.ts";

export const instanceTag = "node.k8s.amazonaws.com/instance_id";
export const createdAtTag = "node.k8s.amazonaws.com/createdAt";
const noManageTag = "node.k8s.amazonaws.com/no_manage";
const clusterTag = "cluster.k8s.amazonaws.com/name";
const ownerTag = "eks:eni:owner";
const descriptionPrefix = "aws-K8S-";

export type Ec2EnisOptions = {
  readonly ec2: Ec2Client;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly instance: Instance;
  readonly settings: Settings;
  /** The API an `UnauthorizedOperation` came from. */
  readonly onUnauthorized: (action: string, message: string) => void;
};

/** What EC2 knows about an attached ENI and IMDS does not. */
export type EniFacts = {
  readonly eniId: string;
  readonly trunk: boolean;
  readonly efa: boolean;
  readonly tags: Readonly<Record<string, string>>;
  /** Secondary addresses (`/32`) and prefixes (`/28`). */
  readonly cidrs: readonly string[];
  readonly attachmentId: string | undefined;
  /** The instance it is attached to, if any. */
  readonly instanceId: string | undefined;
  readonly deleteOnTermination: boolean;
  /** Idle timeouts somebody set on it; undefined when they are EC2's defaults. */
  readonly connectionTracking: ConnectionTracking | undefined;
};

export type ConnectionTracking = NonNullable<NetworkInterface["ConnectionTrackingConfiguration"]>;

export type NewEni = {
  /** Secondary addresses, or prefixes. */
  readonly count: number;
  readonly prefixes: boolean;
  /** Of an ENIConfig; undefined: chosen by tags and free addresses. */
  readonly subnetId?: string | undefined;
  readonly securityGroups: readonly string[];
  readonly connectionTracking?: ConnectionTracking | undefined;
};

export class Ec2Enis {
  readonly #o: Ec2EnisOptions;

  constructor(options: Ec2EnisOptions) {
    this.#o = options;
  }

  /** Facts of these ENIs. One that EC2 does not know is dropped and the rest asked again. */
  async describe(eniIds: readonly string[]): Promise<readonly EniFacts[]> {
    const wanted = new Set(eniIds);
    for (let attempt = 0; wanted.size > 0 && attempt < 12; attempt++) {
      try {
        const answer = await this.#call("DescribeNetworkInterfaces", { NetworkInterfaceIds: [...wanted] });
        return (answer.NetworkInterfaces ?? []).map(factsOf);
      } catch (error) {
        const missing = isAwsError(error, "InvalidNetworkInterfaceID.NotFound")
          ? /'(eni-[0-9a-f]+)'/.exec(error.message)?.[1]
          : undefined;
        if (missing === undefined || !wanted.delete(missing)) throw error;
      }
    }
    return [];
  }

  /** Ours to manage? The primary always is. */
  isManaged(facts: Pick<EniFacts, "tags">, primary: boolean): boolean {
    const { tags } = facts;
    if (primary) return true;
    if (tags[noManageTag] !== undefined) return tags[noManageTag] !== "true";
    return tags[instanceTag] === this.#o.instance.instanceId || this.#o.settings.manageUntaggedEni;
  }

  async describeSubnets(): Promise<readonly SubnetView[]> {
    const { instance } = this.#o;
    const answer = await this.#call("DescribeSubnets", {
      Filters: [
        { Name: "vpc-id", Values: [instance.vpcId] },
        { Name: "availability-zone", Values: [instance.availabilityZone] },
      ],
    });
    return (answer.Subnets ?? []).map((subnet) => ({
      subnetId: subnet.SubnetId ?? "",
      availableAddresses: subnet.AvailableIpAddressCount ?? 0,
      tags: tagsOf(subnet.Tags),
    }));
  }

  /** A new ENI, attached at the lowest free device number. Returns its id. */
  async createAndAttach(wanted: NewEni): Promise<string> {
    const eniId = await this.#create(wanted);
    let attachmentId: string;
    try {
      attachmentId = await this.#attach(eniId);
    } catch (error) {
      await this.#delete(eniId).catch((deleteError: unknown) =>
        this.#o.log.error("cannot delete an ENI that did not attach", { eniId, err: deleteError }),
      );
      throw error;
    }
    try {
      await this.deleteOnTermination(eniId, attachmentId);
    } catch (error) {
      await this.free(eniId);
      throw error;
    }
    return eniId;
  }

  /** An attached ENI otherwise outlives its instance. */
  async deleteOnTermination(eniId: string, attachmentId: string): Promise<void> {
    await this.#call("ModifyNetworkInterfaceAttribute", {
      NetworkInterfaceId: eniId,
      Attachment: { AttachmentId: attachmentId, DeleteOnTermination: true },
    });
  }

  /** Detaches and deletes. */
  async free(eniId: string): Promise<void> {
    const [facts] = await this.describe([eniId]);
    if (!facts) return;
    if (facts.attachmentId !== undefined) {
      const AttachmentId = facts.attachmentId;
      await retry(
        this.#o.clock,
        { tries: 12, firstMs: 200, capMs: 60_000 },
        () => this.#call("DetachNetworkInterface", { AttachmentId }),
        (error) => isAwsError(error, "InvalidAttachmentID.NotFound", "UnauthorizedOperation", "OperationNotPermitted"),
      ).catch((error: unknown) => {
        if (!isAwsError(error, "InvalidAttachmentID.NotFound")) throw error;
      });
      await this.#o.clock.sleep(2000);
    }
    await this.#delete(eniId);
  }

  /** Asks for `count` more addresses or prefixes, then for one if that fails. The new ones as CIDRs. */
  async assign(eniId: string, count: number, prefixes: boolean): Promise<readonly string[]> {
    const ask = async (number: number) => {
      const answer = await this.#call("AssignPrivateIpAddresses", {
        NetworkInterfaceId: eniId,
        ...(prefixes ? { Ipv4PrefixCount: number } : { SecondaryPrivateIpAddressCount: number }),
      });
      return prefixes
        ? (answer.AssignedIpv4Prefixes ?? []).flatMap((item) => item.Ipv4Prefix ?? [])
        : (answer.AssignedPrivateIpAddresses ?? []).flatMap((item) =>
            item.PrivateIpAddress === undefined ? [] : [`${item.PrivateIpAddress}/32`],
          );
    };
    try {
      return await ask(count);
    } catch (error) {
      if (count <= 1 || isAwsError(error, "PrivateIpAddressLimitExceeded", "UnauthorizedOperation")) throw error;
      return ask(1);
    }
  }

  /** Single addresses and prefixes in one call. */
  async unassign(eniId: string, cidrs: readonly string[]): Promise<void> {
    const single = cidrs.filter((cidr) => cidr.endsWith("/32")).map((cidr) => cidr.slice(0, -"/32".length));
    const prefixes = cidrs.filter((cidr) => !cidr.endsWith("/32"));
    await this.#call("UnassignPrivateIpAddresses", {
      NetworkInterfaceId: eniId,
      ...(single.length > 0 ? { PrivateIpAddresses: single } : {}),
      ...(prefixes.length > 0 ? { Ipv4Prefixes: prefixes } : {}),
    });
  }

  /** Gives a managed ENI the tags it lacks. */
  async ensureTags(eniId: string, tags: Readonly<Record<string, string>>): Promise<void> {
    const missing = Object.entries(this.#tags()).filter(([key]) => key !== createdAtTag && tags[key] === undefined);
    if (missing.length === 0) return;
    await retry(this.#o.clock, { tries: 5, firstMs: 500, jitter: 0.3 }, () =>
      this.#call("CreateTags", { Resources: [eniId], Tags: missing.map(([Key, Value]) => ({ Key, Value })) }),
    );
  }

  async setGroups(eniId: string, groups: readonly string[]): Promise<void> {
    await this.#call("ModifyNetworkInterfaceAttribute", { NetworkInterfaceId: eniId, Groups: [...groups] });
  }

  /** Deletes unattached ENIs that a CNI made and lost, of any node of this cluster. Returns the deleted. */
  async deleteLeaked(nowIso: () => Date = () => new Date()): Promise<readonly string[]> {
    const { instance, settings, log } = this.#o;
    const answer = await this.#call("DescribeNetworkInterfaces", {
      MaxResults: 1000,
      Filters: [
        { Name: "tag-key", Values: [instanceTag] },
        { Name: "status", Values: ["available"] },
        { Name: "vpc-id", Values: [instance.vpcId] },
        ...(settings.clusterName ? [{ Name: `tag:${clusterTag}`, Values: [settings.clusterName] }] : []),
      ],
    });
    const deleted: string[] = [];
    for (const eni of answer.NetworkInterfaces ?? []) {
      const eniId = eni.NetworkInterfaceId;
      if (!eniId || !eni.Description?.startsWith(descriptionPrefix)) continue;
      const createdAt = tagsOf(eni.TagSet)[createdAtTag];
      try {
        if (createdAt === undefined) {
          // Its age is unknown: another node may be about to attach it. The next round decides.
          await this.#call("CreateTags", {
            Resources: [eniId],
            Tags: [{ Key: createdAtTag, Value: rfc3339(nowIso()) }],
          });
        } else if (nowIso().getTime() - Date.parse(createdAt) >= 300_000) {
          await this.#delete(eniId);
          deleted.push(eniId);
        }
      } catch (error) {
        log.warn("cannot clean up a leaked ENI", { eniId, err: error });
      }
    }
    return deleted;
  }

  async #create({ count, prefixes, subnetId, securityGroups, connectionTracking }: NewEni): Promise<string> {
    const { instance } = this.#o;
    const subnets = subnetId === undefined ? await this.#subnets() : [subnetId];
    let last: unknown = new Error(
      `Cannot create a network interface: no subnet of ${instance.availabilityZone} is eligible (tag kubernetes.io/role/cni)`,
    );
    for (const SubnetId of subnets) {
      try {
        const answer = await this.#call("CreateNetworkInterface", {
          Description: descriptionPrefix + instance.instanceId,
          Groups: [...securityGroups],
          SubnetId,
          ...(connectionTracking === undefined ? {} : { ConnectionTrackingSpecification: connectionTracking }),
          ...(prefixes ? { Ipv4PrefixCount: count } : { SecondaryPrivateIpAddressCount: count }),
          TagSpecifications: [
            {
              ResourceType: "network-interface",
              Tags: Object.entries(this.#tags()).map(([Key, Value]) => ({ Key, Value })),
            },
          ],
        });
        const eniId = answer.NetworkInterface?.NetworkInterfaceId;
        if (!eniId) throw new Error("Cannot create a network interface: EC2 answered without its id");
        return eniId;
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }

  async #subnets(): Promise<readonly string[]> {
    const { instance, settings, log } = this.#o;
    if (!settings.subnetDiscovery) return [instance.subnetId];
    try {
      return chooseSubnets(await this.describeSubnets(), instance.subnetId, settings.clusterName);
    } catch (error) {
      log.warn("cannot describe subnets, using the primary ENI's", { subnetId: instance.subnetId, err: error });
      return [instance.subnetId];
    }
  }

  async #attach(eniId: string): Promise<string> {
    const answer = await this.#call("AttachNetworkInterface", {
      DeviceIndex: await this.#freeDeviceIndex(),
      InstanceId: this.#o.instance.instanceId,
      NetworkInterfaceId: eniId,
      NetworkCardIndex: 0,
    });
    if (!answer.AttachmentId) throw new Error(`Cannot attach ${eniId}: EC2 answered without an attachment id`);
    return answer.AttachmentId;
  }

  async #freeDeviceIndex(): Promise<number> {
    const answer = await this.#call("DescribeInstances", { InstanceIds: [this.#o.instance.instanceId] });
    const attached = answer.Reservations?.[0]?.Instances?.[0]?.NetworkInterfaces ?? [];
    const used = new Set(
      attached.flatMap(({ Attachment }) =>
        (Attachment?.NetworkCardIndex ?? 0) === 0 ? (Attachment?.DeviceIndex ?? []) : [],
      ),
    );
    for (let index = 0; index < 100; index++) if (!used.has(index)) return index;
    throw new Error("Cannot attach a network interface: all 100 device indexes are in use");
  }

  async #delete(eniId: string): Promise<void> {
    await retry(
      this.#o.clock,
      { tries: 12, firstMs: 500, capMs: 60_000 },
      () => this.#call("DeleteNetworkInterface", { NetworkInterfaceId: eniId }),
      (error) => isAwsError(error, "InvalidNetworkInterfaceID.NotFound", "UnauthorizedOperation"),
    ).catch((error: unknown) => {
      if (!isAwsError(error, "InvalidNetworkInterfaceID.NotFound")) throw error;
    });
  }

  #tags(): Readonly<Record<string, string>> {
    const { instance, settings } = this.#o;
    return {
      ...settings.additionalEniTags,
      [instanceTag]: instance.instanceId,
      [createdAtTag]: rfc3339(new Date()),
      ...(settings.clusterName ? { [clusterTag]: settings.clusterName, [ownerTag]: "amazon-vpc-cni" } : {}),
    };
  }

  /** One EC2 call, counted and timed under upstream's metric names. */
  async #call<A extends keyof Ec2Actions>(action: A, input: Ec2Actions[A]["input"]): Promise<Ec2Actions[A]["output"]> {
    const { ec2, metrics, onUnauthorized } = this.#o;
    const started = performance.now();
    metrics.ec2Requests.inc({ fn: action });
    try {
      const output = await ec2.send(action, input);
      metrics.awsApiLatency.observe({ api: action, error: "false", status: "200" }, performance.now() - started);
      return output;
    } catch (error) {
      const code = isAwsError(error) ? error.code : "Unknown";
      const status = isAwsError(error) ? String(error.status) : "0";
      metrics.ec2Errors.inc({ fn: action });
      metrics.awsApiErrors.inc({ api: action, error: code });
      metrics.awsApiLatency.observe({ api: action, error: "true", status }, performance.now() - started);
      if (code === "UnauthorizedOperation") onUnauthorized(action, (error as Error).message);
      throw error;
    }
  }
}

/** Codes after which asking again within two minutes is pointless. */
export function isOutOfAddresses(error: unknown): boolean {
  return isAwsError(error, "InsufficientFreeAddressesInSubnet", "InsufficientCidrBlocks");
}

/**
 * No /28 is free where one was asked for. Upstream takes the answer of CreateNetworkInterface in a fragmented subnet,
 * `InvalidParameterValue`, for something else and asks again at once.
 */
export function isFragmented(error: unknown): boolean {
  return (
    isAwsError(error, "InsufficientCidrBlocks") ||
    (isAwsError(error, "InvalidParameterValue") && /cidr block|prefix/i.test(error.message))
  );
}

function factsOf(eni: NetworkInterface): EniFacts {
  return {
    eniId: eni.NetworkInterfaceId ?? "",
    trunk: eni.InterfaceType === "trunk",
    efa: eni.InterfaceType === "efa" || eni.InterfaceType === "efa-only",
    tags: tagsOf(eni.TagSet),
    cidrs: [
      ...(eni.PrivateIpAddresses ?? []).flatMap((one) => (one.Primary ? [] : [`${one.PrivateIpAddress}/32`])),
      ...(eni.Ipv4Prefixes ?? []).flatMap((one) => one.Ipv4Prefix ?? []),
    ],
    attachmentId: eni.Attachment?.AttachmentId,
    instanceId: eni.Attachment?.InstanceId,
    deleteOnTermination: eni.Attachment?.DeleteOnTermination ?? false,
    connectionTracking: eni.ConnectionTrackingConfiguration,
  };
}

function tagsOf(
  tags: readonly { Key?: string | undefined; Value?: string | undefined }[] | undefined,
): Readonly<Record<string, string>> {
  return Object.fromEntries((tags ?? []).map((tag) => [tag.Key ?? "", tag.Value ?? ""]));
}

/** Seconds, no fraction, as Go's time.RFC3339 has it. */
function rfc3339(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}
