/** What the store keeps: one record type per kind, each defined beside its operations. */
import type { Address } from "../ec2/addresses.ts";
import type { Instance } from "../ec2/instances.ts";
import type { InternetGateway } from "../ec2/internet-gateways.ts";
import type { LaunchTemplate } from "../ec2/launch-templates.ts";
import type { NetworkAcl } from "../ec2/network-acls.ts";
import type { NatGateway } from "../ec2/nat-gateways.ts";
import type { Eni } from "../ec2/network-interfaces.ts";
import type { PrefixList } from "../ec2/prefix-lists.ts";
import type { RouteTable } from "../ec2/route-tables.ts";
import type { SecurityGroup, SecurityGroupRule } from "../ec2/security-groups.ts";
import type { Subnet } from "../ec2/subnets.ts";
import type { Vpc } from "../ec2/vpcs.ts";
import type { AccessEntry } from "../eks/access-entries.ts";
import type { Addon } from "../eks/addons.ts";
import type { Cluster } from "../eks/clusters.ts";
import type { Nodegroup } from "../eks/nodegroups.ts";
import type { Update } from "../eks/updates.ts";
import type { Fault } from "../faults/faults.ts";
import type { IssuedCredentials } from "../iam/role-credentials.ts";
import type { Store } from "./store.ts";

export type Kinds = {
  vpc: Vpc;
  subnet: Subnet;
  eni: Eni;
  instance: Instance;
  "security-group": SecurityGroup;
  "security-group-rule": SecurityGroupRule;
  "route-table": RouteTable;
  "internet-gateway": InternetGateway;
  "nat-gateway": NatGateway;
  address: Address;
  "prefix-list": PrefixList;
  "network-acl": NetworkAcl;
  "launch-template": LaunchTemplate;
  cluster: Cluster;
  nodegroup: Nodegroup;
  addon: Addon;
  "access-entry": AccessEntry;
  update: Update;
  credentials: IssuedCredentials;
  fault: Fault;
  token: { id: string; hash: string; body: string; at: string };
};

export type CloudStore = Store<Kinds>;

/** What every operation stands on. */
export type World = {
  readonly store: CloudStore;
  readonly region: string;
  readonly accountId: string;
  readonly zones: readonly string[];
  readonly now: () => Date;
  /** How long an ENI takes to attach (a fault); 0 when absent. */
  readonly attachMs?: () => number;
};
