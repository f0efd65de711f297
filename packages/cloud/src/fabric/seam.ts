/**
 * The seam between the cloud's state and its fabric: plain data one way, a few promises the other.
 * The services (src/ec2, src/eks, src/store) produce `FabricState`; the fabric makes the kernel equal to it.
 * This file holds types only. Nothing in it knows SQLite, the AWS wire or the kernel.
 *
 *   state.db ── FabricState + Change ──► Fabric.apply ──► kernel
 *            ── CloudView ──► imds, resolver, internet   (reads, credentials, the AWS API handler)
 *            ── FabricInstance ──► InstanceHost          (boot, stop)
 */
import type { IncomingMessage, ServerResponse } from "node:http";

/** Everything the fabric must realise. Arrays are in a stable order (by creation); values are never mutated. */
export type FabricState = {
  readonly clusterId: string;
  readonly region: string;
  readonly accountId: string;
  readonly vpcs: readonly FabricVpc[];
  readonly subnets: readonly FabricSubnet[];
  readonly enis: readonly FabricEni[];
  readonly instances: readonly FabricInstance[];
  readonly securityGroups: readonly FabricSecurityGroup[];
  readonly routeTables: readonly FabricRouteTable[];
  readonly internetGateways: readonly FabricInternetGateway[];
  readonly natGateways: readonly FabricNatGateway[];
  readonly prefixLists: readonly FabricPrefixList[];
  readonly clusters: readonly FabricCluster[];
};

export type FabricVpc = {
  readonly vpcId: string;
  /** Associated IPv4 blocks, the primary first. */
  readonly cidrs: readonly string[];
  readonly enableDnsSupport: boolean;
  readonly enableDnsHostnames: boolean;
};

export type FabricSubnet = {
  readonly subnetId: string;
  /** Small positive number, unique in its VPC and stable: the upper half of the packet mark. */
  readonly number: number;
  readonly vpcId: string;
  readonly cidr: string;
  readonly availabilityZone: string;
  /** The table in force: the associated one, or the VPC's main table. */
  readonly routeTableId: string;
  /** Entries of its network ACL; absent when it allows everything. */
  readonly acl?: readonly FabricAclEntry[];
};

export type FabricAclEntry = {
  readonly number: number;
  readonly egress: boolean;
  /** `-1` or a protocol number. */
  readonly protocol: string;
  readonly action: "allow" | "deny";
  readonly cidr: string;
  readonly ports?: { readonly from: number; readonly to: number };
  /** -1 for all. */
  readonly icmp?: { readonly type: number; readonly code: number };
};

/** Who holds the instance side of an ENI. */
export type FabricAttachment =
  | {
      readonly kind: "instance";
      readonly attachmentId: string;
      readonly instanceId: string;
      readonly deviceIndex: number;
      readonly networkCardIndex: number;
    }
  /** A cross-account ENI in the namespace of a control plane; `deviceIndex` counts from 0 in that namespace. */
  | { readonly kind: "cluster"; readonly clusterName: string; readonly deviceIndex: number }
  | { readonly kind: "nat-gateway"; readonly natGatewayId: string };

export type FabricEni = {
  readonly eniId: string;
  /** Small positive number, unique in the cloud and stable: for link names of at most 15 characters. */
  readonly number: number;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly mac: string;
  readonly securityGroupIds: readonly string[];
  readonly sourceDestCheck: boolean;
  readonly interfaceType: "interface" | "trunk" | "branch" | "nat_gateway";
  /** The primary address first. `publicAddress` is the Elastic or automatic public address mapped 1:1 by the IGW. */
  readonly addresses: readonly { readonly address: string; readonly publicAddress?: string }[];
  /** Delegated IPv4 prefixes (`a.b.c.d/28`). */
  readonly prefixes: readonly string[];
  /** Absent while the ENI is `available`: no link then, and its addresses answer nothing. */
  readonly attachment?: FabricAttachment;
};

export type FabricInstance = {
  readonly instanceId: string;
  /** `pending` and `running` have a namespace and links; the others are not in the state at all. */
  readonly state: "pending" | "running";
  readonly vpcId: string;
  readonly subnetId: string;
  readonly availabilityZone: string;
  readonly instanceType: string;
  readonly imageId: string;
  readonly keyName?: string;
  readonly launchTime: string;
  /** `ip-10-42-1-2.us-west-2.compute.internal`: the host name and the private DNS name. */
  readonly privateDnsName: string;
  readonly privateAddress: string;
  readonly primaryEniId: string;
  readonly reservationId: string;
  readonly amiLaunchIndex: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly metadataOptions: {
    readonly httpTokens: "required" | "optional";
    readonly httpPutResponseHopLimit: number;
    readonly httpEndpoint: "enabled" | "disabled";
    readonly instanceMetadataTags: "enabled" | "disabled";
  };
  /** The role of its instance profile, when it has one. */
  readonly role?: { readonly name: string; readonly profileArn: string; readonly profileId: string };
  /** As sent to RunInstances: base64 of the raw bytes IMDS answers. */
  readonly userData?: string;
};

export type FabricRule = {
  readonly ruleId: string;
  readonly direction: "ingress" | "egress";
  /** `-1` all, else `tcp`, `udp`, `icmp`, `icmpv6` or a protocol number. */
  readonly protocol: string;
  /** Ports, or ICMP type and code; -1 for all. */
  readonly fromPort: number;
  readonly toPort: number;
  readonly peer:
    | { readonly cidrIpv4: string }
    | { readonly cidrIpv6: string }
    /** The addresses and prefixes of the ENIs that carry this group. */
    | { readonly groupId: string }
    | { readonly prefixListId: string };
};

export type FabricSecurityGroup = {
  readonly groupId: string;
  readonly groupName: string;
  readonly vpcId: string;
  readonly rules: readonly FabricRule[];
};

export type FabricRouteTarget =
  | { readonly kind: "local" }
  | { readonly kind: "internet-gateway"; readonly internetGatewayId: string }
  | { readonly kind: "nat-gateway"; readonly natGatewayId: string }
  | { readonly kind: "eni"; readonly eniId: string }
  /** The target is gone: packets are dropped. */
  | { readonly kind: "blackhole" };

export type FabricRouteTable = {
  readonly routeTableId: string;
  readonly vpcId: string;
  readonly routes: readonly { readonly cidr: string; readonly target: FabricRouteTarget }[];
};

/** Only attached gateways are in the state. */
export type FabricInternetGateway = { readonly internetGatewayId: string; readonly vpcId: string };

export type FabricNatGateway = {
  readonly natGatewayId: string;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly eniId: string;
  readonly privateAddress: string;
  /** Absent for private connectivity. */
  readonly publicAddress?: string;
};

export type FabricPrefixList = {
  readonly prefixListId: string;
  readonly name: string;
  readonly cidrs: readonly string[];
};

export type FabricCluster = {
  readonly name: string;
  readonly vpcId: string;
  /** The X-ENIs' ids; they are in `enis` with `attachment.kind` "cluster". */
  readonly eniIds: readonly string[];
  readonly xeniAddresses: readonly string[];
  /** From 198.51.100.32/27, on the internet side of the control plane's namespace. */
  readonly publicAddress: string;
  /** `<32 hex>.gr7.<region>.eks.amazonaws.com`, without scheme, lower case. */
  readonly endpointName: string;
  readonly endpointPublicAccess: boolean;
  readonly endpointPrivateAccess: boolean;
  readonly publicAccessCidrs: readonly string[];
  /** The service range, so that the namespace can route what the API server proxies. */
  readonly serviceCidr: string;
};

/** The parts of the state a commit touched (keys of `FabricState`) and, where known, the objects' ids. A hint: never needed for truth. */
export type Change = {
  readonly kinds: readonly (keyof FabricState)[];
  readonly ids: readonly string[];
};

/** The data plane. `apply` is idempotent and total: it converges whatever the kernel holds, also after a crash, without disturbing what is already right. */
export interface Fabric {
  /**
   * Resolves when packets see `desired`. Calls may overlap; the fabric serialises them and may skip a state that a
   * newer one replaces (the older call then resolves with the newer). Rejects when the kernel refused; the state stays
   * and the next call tries again.
   */
  apply(desired: FabricState, changed: Change | "everything"): Promise<void>;
  /** The namespace a control plane lives in, created by `apply`: `ul-<cid>-eks-<cluster>`. */
  clusterNetns(clusterName: string): string;
  /** Called after each apply that succeeded, with the state that packets now see, and at once when there was one. Returns the unsubscribe function. */
  onApplied(listener: (state: FabricState) => void): () => void;
  /** Makes an instance's namespace and links anew (a machine that boots again has a bare network). */
  resetInstance(instanceId: string): Promise<void>;
  close(): Promise<void>;
}

/** Runs instances (packages/cloud/src/instances). Its namespace and links exist when `ensureRunning` is called. */
export interface InstanceHost {
  /**
   * Boots the instance, or adopts it when its init already runs. Resolves once init runs. An init that dies is booted
   * again by the host until `terminate` (as EC2 restarts a machine whose kernel stopped).
   */
  ensureRunning(instance: FabricInstance): Promise<void>;
  /** Ends the instance and removes its files. Resolves when no process of it is left. Also right for an instance that does not run. */
  terminate(instanceId: string): Promise<void>;
  /** Stops keeping; leaves the instances running. */
  close(): Promise<void>;
}

export type RoleCredentials = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** ISO 8601, seconds, `Z`. */
  readonly lastUpdated: string;
  readonly expiration: string;
};

/** What the listeners inside the fabric (IMDS, resolver, internet) may ask of the cloud. */
export interface CloudView {
  /** The state as of the last commit; cached, cheap to call per request. */
  state(): FabricState;
  /** What IMDS shows: the same, or an older one while the fault imds-lag is set. */
  metadataState?(): FabricState;
  /** Credentials of the instance's role, renewed before they expire; undefined without a role. */
  issueRoleCredentials(instanceId: string): RoleCredentials | undefined;
  /** The AWS API over HTTP (all services, routed by SigV4 scope): for plain and TLS listeners alike. */
  handleAwsRequest(request: IncomingMessage, response: ServerResponse): void;
  /** Called after each commit that touched anything of `FabricState`. Returns the unsubscribe function. */
  onChange(listener: (changed: Change) => void): () => void;
}

/**
 * What main.ts imports from the fabric side, by name. Each takes what it needs and starts at once.
 *   src/fabric/fabric.ts       openFabric(options: FabricOptions): Promise<Fabric>
 *   src/instances/host.ts      openInstanceHost(options: InstanceHostOptions): Promise<InstanceHost>
 *   src/fabric/listeners.ts    openListeners(options: ListenerOptions): Promise<{ close(): Promise<void> }>   (IMDS, resolver, internet hosts)
 */
export type FabricOptions = { readonly clusterId: string; readonly stateDir: string };

export type InstanceHostOptions = {
  readonly clusterId: string;
  readonly stateDir: string;
  readonly repoDir: string;
  readonly nodeBinary: string;
  readonly caCertFile: string;
  readonly region: string;
  /** From the settings: default `luajit <repo>/.build/lua/instance-init.lua`. */
  readonly argv: readonly string[];
  /** The kubelet's command as seen inside the instance; default Node and the bundled kubelet below /opt/underlay. */
  readonly kubeletArgv?: readonly string[];
  /** The address for resolv.conf: base + 2 of the VPC; default 169.254.169.253. */
  readonly resolverOf?: (vpcId: string) => string | undefined;
  /** `fabric.resetInstance`; without it an instance that boots again finds its network as it left it. */
  readonly resetInstance?: (instanceId: string) => Promise<void>;
  /** Its init ended by itself; the host boots it again after a moment. */
  readonly onExit?: (instanceId: string) => void;
};

export type ListenerOptions = {
  readonly clusterId: string;
  readonly stateDir: string;
  readonly region: string;
  readonly caCertFile: string;
  readonly caKeyFile: string;
  readonly fabric: Fabric;
  readonly view: CloudView;
};
