/**
 * Auto Scaling as far as managed node groups need it: a group exists because its node group does, sizes changed here are the
 * node group's, and a member that ends is replaced by `lifecycle/nodegroup-lifecycle.ts`.
 */
import type {
  AutoscalingActions,
  AutoScalingGroup,
  Instance as InstanceOutput,
  TagDescription,
} from "@underlay/aws/generated/autoscaling-types";
import { autoscalingTable } from "@underlay/aws/generated/autoscaling-table";
import { compilePattern } from "../ec2/filters.ts";
import { terminateInstance, type Instance } from "../ec2/instances.ts";
import { fitToDesired, instancesOf, nodegroupTags, type Nodegroup } from "../eks/nodegroups.ts";
import { ApiError } from "../protocol/api-error.ts";
import { serviceOf, type OperationsOf, type Service } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";

type Filter = { Name?: string | undefined; Values?: readonly string[] | undefined };
type Member = { readonly group: Nodegroup; readonly instance: Instance };

const operations = (world: World, caData: () => string): OperationsOf<AutoscalingActions> => ({
  DescribeAutoScalingGroups: {
    takes: ["AutoScalingGroupNames", "Filters", "MaxRecords", "NextToken"],
    run(input) {
      const names = input.AutoScalingGroupNames ?? [];
      const accepts = (input.Filters ?? []).map(groupFilter);
      const chosen = world.store
        .all("nodegroup")
        .filter((group) => names.length === 0 || names.includes(group.autoScalingGroup))
        .filter((group) => accepts.every((accept) => accept(nodegroupTags(group))));
      const { page, ...next } = pageOf(chosen, input, 100);
      return { AutoScalingGroups: page.map((group) => renderGroup(world, group)), ...next };
    },
  },

  DescribeAutoScalingInstances: {
    takes: ["InstanceIds", "MaxRecords", "NextToken"],
    run(input) {
      const all = world.store
        .all("nodegroup")
        .flatMap((group) => instancesOf(world, group).map((instance): Member => ({ group, instance })));
      const ids = input.InstanceIds ?? [];
      const { page, ...next } = pageOf(
        all.filter(({ instance }) => ids.length === 0 || ids.includes(instance.id)),
        input,
        50,
      );
      return {
        AutoScalingInstances: page.map(({ group, instance }) => ({
          ...renderInstance(instance),
          AutoScalingGroupName: group.autoScalingGroup,
          HealthStatus: "HEALTHY",
        })),
        ...next,
      };
    },
  },

  DescribeTags: {
    takes: ["Filters", "MaxRecords", "NextToken"],
    run(input) {
      const tests = (input.Filters ?? []).map(tagFilter);
      const tags = world.store
        .all("nodegroup")
        .flatMap(renderTags)
        .filter((tag) => tests.every((test) => test(tag)));
      const { page, ...next } = pageOf(tags, input, 100);
      return { Tags: page, ...next };
    },
  },

  UpdateAutoScalingGroup: {
    takes: ["AutoScalingGroupName", "MinSize", "MaxSize", "DesiredCapacity"],
    run({ AutoScalingGroupName = "", MinSize, MaxSize, DesiredCapacity }) {
      const group = findGroup(world, AutoScalingGroupName);
      const min = MinSize ?? group.scaling.min;
      const max = MaxSize ?? group.scaling.max;
      if (min < 0 || max < min)
        throw new ApiError("ValidationError", `Max bound, ${max}, must be greater than or equal to min bound, ${min}`);
      if (DesiredCapacity !== undefined) requireWithin(DesiredCapacity, min, max);
      // Without a desired capacity, the old one moves inside the new bounds.
      const desired = DesiredCapacity ?? Math.min(max, Math.max(min, group.scaling.desired));
      resize(world, group, { min, max, desired }, caData());
      return {};
    },
  },

  SetDesiredCapacity: {
    takes: ["AutoScalingGroupName", "DesiredCapacity"],
    run({ AutoScalingGroupName = "", DesiredCapacity = 0 }) {
      const group = findGroup(world, AutoScalingGroupName);
      requireWithin(DesiredCapacity, group.scaling.min, group.scaling.max);
      resize(world, group, { ...group.scaling, desired: DesiredCapacity }, caData());
      return {};
    },
  },

  TerminateInstanceInAutoScalingGroup: {
    takes: ["InstanceId", "ShouldDecrementDesiredCapacity"],
    run({ InstanceId = "", ShouldDecrementDesiredCapacity = false }) {
      const group = world.store
        .all("nodegroup")
        .find((one) => instancesOf(world, one).some((instance) => instance.id === InstanceId));
      const instance = world.store.get("instance", InstanceId);
      if (group === undefined || instance === undefined)
        throw new ApiError(
          "ValidationError",
          `Instance Id not found - No managed instance found for instance ID: ${InstanceId}`,
        );
      const { min, max, desired } = group.scaling;
      if (ShouldDecrementDesiredCapacity && desired <= min)
        throw new ApiError(
          "ValidationError",
          `Currently, desiredSize equals minSize (${min}). Terminating instance without replacement will violate group's min size constraint.`,
        );
      terminateInstance(world, instance);
      resize(world, group, { min, max, desired: ShouldDecrementDesiredCapacity ? desired - 1 : desired }, caData());
      const now = world.now();
      return {
        Activity: {
          ActivityId: InstanceId.replace("i-", ""),
          AutoScalingGroupName: group.autoScalingGroup,
          Description: `Terminating EC2 instance: ${InstanceId}`,
          Cause: `At ${now.toISOString()} instance ${InstanceId} was taken out of service in response to a user request.`,
          StartTime: now,
          StatusCode: "InProgress",
          Progress: 0,
        },
      };
    },
  },
});

export function autoscalingService(world: World, caData: () => string): Service {
  return serviceOf("autoscaling", autoscalingTable, operations(world, caData));
}

function findGroup(world: World, name: string): Nodegroup {
  const group = world.store.all("nodegroup").find((one) => one.autoScalingGroup === name);
  if (group === undefined)
    throw new ApiError("ValidationError", `AutoScalingGroup name not found - AutoScalingGroup '${name}' not found`);
  return group;
}

function requireWithin(desired: number, min: number, max: number): void {
  if (desired < min)
    throw new ApiError(
      "ValidationError",
      `Desired capacity:${desired} must be greater than or equal to min size:${min}`,
    );
  if (desired > max)
    throw new ApiError("ValidationError", `Desired capacity:${desired} must be less than or equal to max size:${max}`);
}

/** The node group's status stays: Auto Scaling changes sizes behind EKS's back, on AWS too. */
function resize(world: World, group: Nodegroup, scaling: Nodegroup["scaling"], caData: string): void {
  const changed = world.store.put("nodegroup", { ...group, scaling, modifiedAt: world.now().toISOString() });
  if (group.status !== "DELETING") fitToDesired(world, changed, caData);
}

/** `tag:<key>`, `tag-key` and `tag-value`. */
function groupFilter({ Name = "", Values = [] }: Filter): (tags: Readonly<Record<string, string>>) => boolean {
  const tests = Values.map(compilePattern);
  const any = (text: string | undefined) => text !== undefined && tests.some((test) => test(text));
  if (Name.startsWith("tag:")) return (tags) => any(tags[Name.slice(4)]);
  if (Name === "tag-key") return (tags) => Object.keys(tags).some(any);
  if (Name === "tag-value") return (tags) => Object.values(tags).some(any);
  throw new ApiError(
    "ValidationError",
    `Filter type ${Name} is not correct. Allowed Filter types are: [tag-key, tag-value, tag:<key>]`,
  );
}

function tagFilter({ Name = "", Values = [] }: Filter): (tag: TagDescription) => boolean {
  const tests = Values.map(compilePattern);
  const any = (text: string | undefined) => text !== undefined && tests.some((test) => test(text));
  switch (Name) {
    case "auto-scaling-group":
      return (tag) => any(tag.ResourceId);
    case "key":
      return (tag) => any(tag.Key);
    case "value":
      return (tag) => any(tag.Value);
    case "propagate-at-launch":
      return (tag) => any(String(tag.PropagateAtLaunch));
    default:
      throw new ApiError("ValidationError", `Filter type ${Name} is not correct.`);
  }
}

function renderGroup(world: World, group: Nodegroup): AutoScalingGroup {
  const zones = group.subnetIds.map((id) => world.store.get("subnet", id)?.availabilityZone ?? "");
  return {
    AutoScalingGroupName: group.autoScalingGroup,
    AutoScalingGroupARN: `arn:aws:autoscaling:${world.region}:${world.accountId}:autoScalingGroup:${group.autoScalingGroup.slice(-36)}:autoScalingGroupName/${group.autoScalingGroup}`,
    MinSize: group.scaling.min,
    MaxSize: group.scaling.max,
    DesiredCapacity: group.scaling.desired,
    DefaultCooldown: 300,
    AvailabilityZones: [...new Set(zones)],
    LoadBalancerNames: [],
    TargetGroupARNs: [],
    HealthCheckType: "EC2",
    HealthCheckGracePeriod: 15,
    Instances: instancesOf(world, group).map(renderInstance),
    CreatedTime: new Date(group.createdAt),
    SuspendedProcesses: [],
    VPCZoneIdentifier: group.subnetIds.join(","),
    EnabledMetrics: [],
    Tags: renderTags(group),
    TerminationPolicies: ["AZRebalance", "OldestLaunchConfiguration"],
    NewInstancesProtectedFromScaleIn: false,
    ServiceLinkedRoleARN: `arn:aws:iam::${world.accountId}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling`,
    ...(group.status === "DELETING" ? { Status: "Delete in progress" } : {}),
  };
}

function renderTags(group: Nodegroup): TagDescription[] {
  return Object.entries(nodegroupTags(group)).map(([Key, Value]) => ({
    ResourceId: group.autoScalingGroup,
    ResourceType: "auto-scaling-group",
    Key,
    Value,
    PropagateAtLaunch: true,
  }));
}

function renderInstance(instance: Instance): InstanceOutput {
  return {
    InstanceId: instance.id,
    InstanceType: instance.instanceType,
    AvailabilityZone: instance.availabilityZone,
    LifecycleState: instance.state === "pending" ? "Pending" : "InService",
    HealthStatus: "Healthy",
    ProtectedFromScaleIn: false,
  };
}

function pageOf<T>(
  items: readonly T[],
  { MaxRecords, NextToken }: { MaxRecords?: number | undefined; NextToken?: string | undefined },
  most: number,
): { page: T[]; NextToken?: string } {
  const size = MaxRecords ?? 50;
  if (size < 1 || size > most) throw new ApiError("ValidationError", `MaxRecords must be between 1 and ${most}`);
  const start = NextToken === undefined ? 0 : Number(Buffer.from(NextToken, "base64url").toString("utf8"));
  if (!Number.isInteger(start)) throw new ApiError("InvalidNextToken", `The token '${NextToken ?? ""}' is invalid.`);
  const page = items.slice(start, start + size);
  const end = start + page.length;
  return end < items.length ? { page, NextToken: Buffer.from(String(end)).toString("base64url") } : { page };
}
