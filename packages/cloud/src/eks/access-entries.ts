/** Access entries: which IAM principals are which Kubernetes users. The API server reads them from `access-entries.json`. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { AccessEntry as EntryOutput, EksActions } from "@underlay/aws/generated/eks-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { findCluster, pageOfNames, partArn } from "./arns.ts";

type Policy = {
  readonly policyArn: string;
  readonly scope: { readonly type: "cluster" | "namespace"; readonly namespaces: readonly string[] };
  readonly associatedAt: string;
};

export type AccessEntry = {
  /** `<cluster> <principal ARN>`. */
  readonly id: string;
  readonly clusterName: string;
  readonly principalArn: string;
  readonly arn: string;
  readonly type: string;
  readonly username: string;
  readonly groups: readonly string[];
  readonly policies: readonly Policy[];
  readonly createdAt: string;
  readonly modifiedAt: string;
  readonly tags: Readonly<Record<string, string>>;
};

const policyPrefix = "arn:aws:eks::aws:cluster-access-policy/";
const policyNames = [
  "AmazonEKSAdminPolicy",
  "AmazonEKSClusterAdminPolicy",
  "AmazonEKSAdminViewPolicy",
  "AmazonEKSEditPolicy",
  "AmazonEKSViewPolicy",
];
const nodeTypes = ["EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "EC2", "HYBRID_LINUX", "HYPERPOD_LINUX"];

/** The entry `bootstrapClusterCreatorAdminPermissions` makes. */
export function addCreatorEntry(world: World, clusterName: string, principalArn: string): void {
  const scope = { type: "cluster", namespaces: [] } as const;
  const policies = [
    { policyArn: `${policyPrefix}AmazonEKSClusterAdminPolicy`, scope, associatedAt: world.now().toISOString() },
  ];
  putEntry(world, {
    clusterName,
    principalArn,
    type: "STANDARD",
    username: standardName(principalArn),
    groups: [],
    policies,
    tags: {},
  });
}

/** The entry a node group makes for its role, unless there is one. */
export function ensureNodeEntry(world: World, clusterName: string, roleArn: string): void {
  if (world.store.get("access-entry", `${clusterName} ${roleArn}`) !== undefined) return;
  putEntry(world, {
    clusterName,
    principalArn: roleArn,
    type: "EC2_LINUX",
    username: nodeName,
    groups: ["system:nodes"],
    policies: [],
    tags: {},
  });
}

const nodeName = "system:node:{{EC2PrivateDNSName}}";

/** Writes a cluster's entries for its API server, whole or not at all. */
export function writeAccessEntries(world: World, clusterName: string, path: string): void {
  const entries = world.store
    .all("access-entry")
    .filter((entry) => entry.clusterName === clusterName)
    .map(({ principalArn, type, username, groups, policies }) => ({
      principalArn,
      type,
      username,
      groups,
      policies: policies.map(({ policyArn, scope }) => ({ policyArn, accessScope: scope })),
    }));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(entries, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

export const accessEntryOperations = (world: World): OperationsOf<EksActions> => ({
  CreateAccessEntry: {
    takes: ["clusterName", "principalArn", "kubernetesGroups", "tags", "username", "type"],
    run({ clusterName = "", principalArn = "", kubernetesGroups = [], tags = {}, username, type = "STANDARD" }) {
      requireApiMode(world, clusterName);
      if (!/^arn:aws:iam::\d{12}:(role|user)\/.+$/.test(principalArn))
        throw new ApiError("InvalidParameterException", "The principalArn parameter format is not valid");
      if (type !== "STANDARD" && !nodeTypes.includes(type))
        throw new ApiError("InvalidParameterException", `The type ${type} is not valid`);
      if (type !== "STANDARD" && kubernetesGroups.length > 0)
        throw new ApiError(
          "InvalidParameterException",
          `The kubernetesGroups parameter is not supported for entries of type ${type}`,
        );
      if (kubernetesGroups.some((group) => group.startsWith("system:")))
        throw new ApiError(
          "InvalidParameterException",
          "The kubernetes group name is invalid, it cannot start with system:",
        );
      if (world.store.get("access-entry", `${clusterName} ${principalArn}`) !== undefined)
        throw new ApiError(
          "ResourceInUseException",
          "The specified access entry resource is already in use on this cluster.",
        );
      const entry = putEntry(world, {
        clusterName,
        principalArn,
        type,
        username: username ?? (type === "STANDARD" ? standardName(principalArn) : nodeName),
        groups: type === "STANDARD" ? kubernetesGroups : ["system:nodes"],
        policies: [],
        tags: { ...tags },
      });
      return { accessEntry: render(entry) };
    },
  },
  DescribeAccessEntry: {
    takes: ["clusterName", "principalArn"],
    run: ({ clusterName = "", principalArn = "" }) => ({
      accessEntry: render(findEntry(world, clusterName, principalArn)),
    }),
  },
  ListAccessEntries: {
    takes: ["clusterName", "associatedPolicyArn", "maxResults", "nextToken"],
    run(input) {
      findCluster(world, input.clusterName ?? "");
      const { associatedPolicyArn: policy } = input;
      const arns = world.store
        .all("access-entry")
        .filter(
          (entry) =>
            entry.clusterName === input.clusterName &&
            (policy === undefined || entry.policies.some(({ policyArn }) => policyArn === policy)),
        )
        .map(({ principalArn }) => principalArn);
      const { page, ...next } = pageOfNames(arns, input);
      return { accessEntries: page, ...next };
    },
  },
  UpdateAccessEntry: {
    takes: ["clusterName", "principalArn", "kubernetesGroups", "username"],
    run({ clusterName = "", principalArn = "", kubernetesGroups, username }) {
      const entry = findEntry(world, clusterName, principalArn);
      if (entry.type !== "STANDARD")
        throw new ApiError("InvalidParameterException", `Entries of type ${entry.type} cannot be changed`);
      const changed = {
        ...entry,
        groups: kubernetesGroups ?? entry.groups,
        username: username ?? entry.username,
        modifiedAt: world.now().toISOString(),
      };
      return { accessEntry: render(world.store.put("access-entry", changed)) };
    },
  },
  DeleteAccessEntry: {
    takes: ["clusterName", "principalArn"],
    run({ clusterName = "", principalArn = "" }) {
      world.store.remove("access-entry", findEntry(world, clusterName, principalArn).id);
      return {};
    },
  },
  AssociateAccessPolicy: {
    takes: ["clusterName", "principalArn", "policyArn", "accessScope"],
    run({ clusterName = "", principalArn = "", policyArn = "", accessScope = {} }) {
      const entry = findEntry(world, clusterName, principalArn);
      if (entry.type !== "STANDARD")
        throw new ApiError(
          "InvalidRequestException",
          `Access policies cannot be associated with entries of type ${entry.type}`,
        );
      if (!policyNames.includes(policyArn.replace(policyPrefix, "")) || !policyArn.startsWith(policyPrefix))
        throw new ApiError("InvalidParameterException", `The policyArn parameter format is not valid: ${policyArn}`);
      const scope = {
        type: accessScope.type === "namespace" ? ("namespace" as const) : ("cluster" as const),
        namespaces: accessScope.namespaces ?? [],
      };
      const policy = { policyArn, scope, associatedAt: world.now().toISOString() };
      world.store.put("access-entry", {
        ...entry,
        policies: [...entry.policies.filter((one) => one.policyArn !== policyArn), policy],
      });
      return { clusterName, principalArn, associatedAccessPolicy: renderPolicy(policy) };
    },
  },
  DisassociateAccessPolicy: {
    takes: ["clusterName", "principalArn", "policyArn"],
    run({ clusterName = "", principalArn = "", policyArn = "" }) {
      const entry = findEntry(world, clusterName, principalArn);
      if (!entry.policies.some((one) => one.policyArn === policyArn))
        throw new ApiError(
          "ResourceNotFoundException",
          `The access policy ${policyArn} is not associated with ${principalArn}`,
        );
      world.store.put("access-entry", {
        ...entry,
        policies: entry.policies.filter((one) => one.policyArn !== policyArn),
      });
      return {};
    },
  },
  ListAssociatedAccessPolicies: {
    takes: ["clusterName", "principalArn", "maxResults", "nextToken"],
    run(input) {
      const entry = findEntry(world, input.clusterName ?? "", input.principalArn ?? "");
      const { page, ...next } = pageOfNames(entry.policies, input);
      return {
        clusterName: entry.clusterName,
        principalArn: entry.principalArn,
        associatedAccessPolicies: page.map(renderPolicy),
        ...next,
      };
    },
  },
  ListAccessPolicies: {
    takes: ["maxResults", "nextToken"],
    run(input) {
      const { page, ...next } = pageOfNames(
        policyNames.map((name) => ({ name, arn: policyPrefix + name })),
        input,
      );
      return { accessPolicies: page, ...next };
    },
  },
});

function putEntry(world: World, facts: Omit<AccessEntry, "id" | "arn" | "createdAt" | "modifiedAt">): AccessEntry {
  const now = world.now().toISOString();
  const [, account = "", kind = "", path = ""] = /^arn:aws:iam::(\d+):(\w+)\/(.*)$/.exec(facts.principalArn) ?? [];
  return world.store.put("access-entry", {
    id: `${facts.clusterName} ${facts.principalArn}`,
    arn: partArn(world, "access-entry", facts.clusterName, `${kind}/${account}/${path.split("/").at(-1) ?? ""}`),
    createdAt: now,
    modifiedAt: now,
    ...facts,
  });
}

function findEntry(world: World, clusterName: string, principalArn: string): AccessEntry {
  requireApiMode(world, clusterName);
  const entry = world.store.get("access-entry", `${clusterName} ${principalArn}`);
  if (entry === undefined)
    throw new ApiError(
      "ResourceNotFoundException",
      `The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.`,
    );
  return entry;
}

function requireApiMode(world: World, clusterName: string): void {
  if (findCluster(world, clusterName).authenticationMode === "CONFIG_MAP")
    throw new ApiError(
      "InvalidRequestException",
      "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation.",
    );
}

/** A role's users are its sessions. */
function standardName(principalArn: string): string {
  const role = /^arn:aws:iam::(\d+):role\/(?:.*\/)?([^/]+)$/.exec(principalArn);
  return role === null ? principalArn : `arn:aws:sts::${role[1]}:assumed-role/${role[2]}/{{SessionName}}`;
}

function render(entry: AccessEntry): EntryOutput {
  return {
    clusterName: entry.clusterName,
    principalArn: entry.principalArn,
    kubernetesGroups: entry.groups,
    accessEntryArn: entry.arn,
    createdAt: new Date(entry.createdAt),
    modifiedAt: new Date(entry.modifiedAt),
    tags: entry.tags,
    username: entry.username,
    type: entry.type,
  };
}

function renderPolicy({ policyArn, scope, associatedAt }: Policy) {
  return { policyArn, accessScope: scope, associatedAt: new Date(associatedAt), modifiedAt: new Date(associatedAt) };
}
