/** Managed prefix lists: AWS's own of the region, and customers'. */
import type { Ec2Actions, ManagedPrefixList } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { requireIpv4Cidr } from "./cidr-input.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type PrefixList = {
  readonly id: string;
  readonly name: string;
  readonly maxEntries: number;
  readonly version: number;
  readonly entries: readonly { readonly cidr: string; readonly description?: string }[];
  readonly ownedByAws?: true;
  readonly tags: Tags;
};

/** AWS-managed lists. The blocks of S3 and DynamoDB are the region's published first ones. */
function awsLists(world: World): PrefixList[] {
  const list = (id: string, service: string, cidrs: string[], maxEntries: number): PrefixList => ({
    id,
    name: `com.amazonaws.${world.region}.${service}`,
    maxEntries,
    version: 1,
    entries: cidrs.map((cidr) => ({ cidr })),
    ownedByAws: true,
    tags: {},
  });
  return [
    list("pl-68a54001", "s3", ["52.92.128.0/17", "52.218.128.0/17", "3.5.76.0/22", "3.5.80.0/21"], 20),
    list("pl-00a54069", "dynamodb", ["52.94.10.0/24", "35.80.35.0/24"], 10),
    list("pl-0b6a3d2e5f7180c94", "vpc-lattice", ["169.254.171.0/24"], 10),
  ];
}

/** Every list there is, AWS's first. */
export function allPrefixLists(world: World): PrefixList[] {
  return [...awsLists(world), ...world.store.all("prefix-list")];
}

export function findPrefixList(world: World, id: string): PrefixList {
  return awsLists(world).find((list) => list.id === id) ?? find(world, "prefix-list", id);
}

/** How many rules a reference counts as. */
export function prefixListWeight(world: World, id: string): number {
  return allPrefixLists(world).find((list) => list.id === id)?.maxEntries ?? 1;
}

export const prefixListOperations = (world: World): OperationsOf<Ec2Actions> => ({
  DescribeManagedPrefixLists: {
    takes: ["PrefixListIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const given = input.PrefixListIds?.length
        ? input.PrefixListIds.map((id) => findPrefixList(world, id))
        : allPrefixLists(world);
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, {
        least: 1,
        most: 100,
      });
      return { PrefixLists: page.map((list) => render(world, list)), ...next };
    },
  },
  DescribePrefixLists: {
    takes: ["PrefixListIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const lists = awsLists(world).filter(
        (list) => !input.PrefixListIds?.length || input.PrefixListIds.includes(list.id),
      );
      const { page, ...next } = pageOf(applyFilters(lists, input.Filters, filtersOf(world)), input);
      return {
        PrefixLists: page.map((list) => ({
          PrefixListId: list.id,
          PrefixListName: list.name,
          Cidrs: list.entries.map(({ cidr }) => cidr),
        })),
        ...next,
      };
    },
  },
  GetManagedPrefixListEntries: {
    takes: ["PrefixListId", "MaxResults", "NextToken"],
    run(input) {
      const { entries } = findPrefixList(world, input.PrefixListId ?? "");
      const { page, ...next } = pageOf(
        entries.map((entry) => ({ id: entry.cidr, ...entry })),
        input,
        { least: 1, most: 100 },
      );
      return {
        Entries: page.map(({ cidr, description }) => ({
          Cidr: cidr,
          ...(description === undefined ? {} : { Description: description }),
        })),
        ...next,
      };
    },
  },
  CreateManagedPrefixList: {
    takes: ["PrefixListName", "Entries", "MaxEntries", "AddressFamily", "TagSpecifications"],
    run({ PrefixListName = "", Entries = [], MaxEntries = 1, AddressFamily, TagSpecifications }) {
      if (AddressFamily !== "IPv4")
        throw new ApiError("UnsupportedOperation", "Only prefix lists with AddressFamily IPv4 are supported.");
      if (PrefixListName.startsWith("com.amazonaws"))
        throw new ApiError("InvalidParameterValue", "The prefix list name cannot start with com.amazonaws");
      const entries = Entries.map(({ Cidr = "", Description }) => entryOf(Cidr, Description));
      requireRoom(entries.length, MaxEntries);
      const tags = tagsFrom(TagSpecifications, "prefix-list");
      const list = world.store.put("prefix-list", {
        id: newId("pl-"),
        name: PrefixListName,
        maxEntries: MaxEntries,
        version: 1,
        entries,
        tags,
      });
      return { PrefixList: render(world, list) };
    },
  },
  ModifyManagedPrefixList: {
    takes: ["PrefixListId", "CurrentVersion", "PrefixListName", "AddEntries", "RemoveEntries", "MaxEntries"],
    run({ PrefixListId = "", CurrentVersion, PrefixListName, AddEntries = [], RemoveEntries = [], MaxEntries }) {
      const list = find(world, "prefix-list", PrefixListId);
      if (CurrentVersion !== undefined && CurrentVersion !== list.version)
        throw new ApiError(
          "PrefixListVersionMismatch",
          `The prefix list has the incorrect version number; current version is ${list.version}`,
        );
      const removed = new Set(RemoveEntries.map(({ Cidr }) => Cidr));
      const added = AddEntries.map(({ Cidr = "", Description }) => entryOf(Cidr, Description));
      const kept = list.entries.filter(({ cidr }) => !removed.has(cidr) && !added.some((entry) => entry.cidr === cidr));
      const maxEntries = MaxEntries ?? list.maxEntries;
      requireRoom(kept.length + added.length, maxEntries);
      const changed = world.store.put("prefix-list", {
        ...list,
        name: PrefixListName ?? list.name,
        entries: [...kept, ...added],
        maxEntries,
        version: list.version + 1,
      });
      return { PrefixList: render(world, changed) };
    },
  },
  DeleteManagedPrefixList: {
    takes: ["PrefixListId"],
    run({ PrefixListId = "" }) {
      const list = find(world, "prefix-list", PrefixListId);
      const inUse = world.store
        .all("security-group-rule")
        .some(({ peer }) => "prefixListId" in peer && peer.prefixListId === list.id);
      if (inUse)
        throw new ApiError("DependencyViolation", `The prefix list '${list.id}' is in use and cannot be deleted.`);
      world.store.remove("prefix-list", list.id);
      return { PrefixList: { ...render(world, list), State: "delete-in-progress" } };
    },
  },
});

function entryOf(cidr: string, description: string | undefined): PrefixList["entries"][number] {
  const canonical = requireIpv4Cidr(cidr, { code: "InvalidParameterValue", least: 0, most: 32 });
  return description === undefined ? { cidr: canonical } : { cidr: canonical, description };
}

function requireRoom(count: number, most: number): void {
  if (count > most)
    throw new ApiError(
      "PrefixListMaxEntriesExceeded",
      `The prefix list cannot hold ${count} entries: its maximum is ${most}`,
    );
}

function render(world: World, list: PrefixList): ManagedPrefixList {
  const owner = list.ownedByAws === true ? "aws" : world.accountId;
  return {
    PrefixListId: list.id,
    AddressFamily: "IPv4",
    State: list.version > 1 ? "modify-complete" : "create-complete",
    PrefixListArn: `arn:aws:ec2:${world.region}:${owner}:prefix-list/${list.id}`,
    PrefixListName: list.name,
    ...(list.ownedByAws === true ? {} : { MaxEntries: list.maxEntries, Version: list.version }),
    Tags: tagList(list.tags),
    OwnerId: list.ownedByAws === true ? "AWS" : world.accountId,
  };
}

const filtersOf = (world: World): FilterTable<PrefixList> => ({
  "owner-id": (list) => [list.ownedByAws === true ? "AWS" : world.accountId],
  "prefix-list-id": (list) => [list.id],
  "prefix-list-name": (list) => [list.name],
});
