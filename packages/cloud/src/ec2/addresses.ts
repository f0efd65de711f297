/** Elastic addresses, and the pool public addresses come from (203.0.113.0/24, a documentation range). */
import type { Ec2Actions, Address as AddressOutput } from "@underlay/aws/generated/ec2-types";
import { nthAddress } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import type { Eni } from "./network-interfaces.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type Address = {
  readonly id: string;
  readonly publicAddress: string;
  /** Present while associated; the ENI's address carries the mapping as well. */
  readonly association?: { readonly id: string; readonly eniId: string; readonly privateAddress: string };
  readonly tags: Tags;
};

const pool = "203.0.113.0/24";

/** A public address nobody has. Also for the automatic ones of instances in public subnets. */
export function takePublicAddress(world: World): string {
  const taken = new Set(world.store.all("address").map(({ publicAddress }) => publicAddress));
  for (const eni of world.store.all("eni"))
    for (const { publicAddress } of eni.addresses) if (publicAddress !== undefined) taken.add(publicAddress);
  for (let n = 10; n < 255; n += 1) {
    const address = nthAddress(pool, n);
    if (!taken.has(address)) return address;
  }
  throw new ApiError("InsufficientAddressCapacity", "Not enough elastic IP addresses available");
}

/** Maps an Elastic address to a private address of an ENI. */
export function associate(world: World, address: Address, eni: Eni, privateAddress: string): string {
  const id = newId("eipassoc-");
  world.store.put("address", { ...address, association: { id, eniId: eni.id, privateAddress } });
  const addresses = eni.addresses.map((one) =>
    one.address === privateAddress
      ? { address: one.address, publicAddress: address.publicAddress, allocationId: address.id, associationId: id }
      : one,
  );
  world.store.put("eni", { ...eni, addresses });
  return id;
}

/** Ends the mapping of an Elastic address; the ENI may be gone already. */
export function disassociate(world: World, address: Address): void {
  const { association, ...rest } = address;
  world.store.put("address", rest);
  const eni = association === undefined ? undefined : world.store.get("eni", association.eniId);
  if (eni === undefined) return;
  const addresses = eni.addresses.map((one) => (one.allocationId === address.id ? { address: one.address } : one));
  world.store.put("eni", { ...eni, addresses });
}

export const addressOperations = (world: World): OperationsOf<Ec2Actions> => ({
  AllocateAddress: {
    takes: ["Domain", "TagSpecifications", "NetworkBorderGroup", "PublicIpv4Pool"],
    run({ Domain, TagSpecifications }) {
      if (Domain !== undefined && Domain !== "vpc")
        throw new ApiError("UnsupportedOperation", `The domain ${Domain} is not supported.`);
      const address = world.store.put("address", {
        id: newId("eipalloc-"),
        publicAddress: takePublicAddress(world),
        tags: tagsFrom(TagSpecifications, "elastic-ip"),
      });
      return {
        AllocationId: address.id,
        PublicIpv4Pool: "amazon",
        NetworkBorderGroup: world.region,
        Domain: "vpc",
        PublicIp: address.publicAddress,
      };
    },
  },
  ReleaseAddress: {
    takes: ["AllocationId", "PublicIp", "NetworkBorderGroup"],
    run(input) {
      const address = requireAddress(world, input);
      if (address.association !== undefined)
        throw new ApiError(
          "InvalidIPAddress.InUse",
          `The address with allocation id [${address.id}] cannot be released because it is in use.`,
        );
      world.store.remove("address", address.id);
      return {};
    },
  },
  DescribeAddresses: {
    takes: ["AllocationIds", "PublicIps", "Filters"],
    run({ AllocationIds, PublicIps, Filters }) {
      const given = AllocationIds?.length
        ? findAll(world, "address", AllocationIds)
        : PublicIps?.length
          ? PublicIps.map((PublicIp) => requireAddress(world, { PublicIp }))
          : world.store.all("address");
      return { Addresses: applyFilters(given, Filters, filtersOf(world)).map((address) => render(world, address)) };
    },
  },
  DescribeAddressesAttribute: {
    takes: ["AllocationIds", "Attribute", "MaxResults", "NextToken"],
    run({ AllocationIds }) {
      const given = AllocationIds?.length ? findAll(world, "address", AllocationIds) : [];
      return { Addresses: given.map(({ id, publicAddress }) => ({ AllocationId: id, PublicIp: publicAddress })) };
    },
  },
  AssociateAddress: {
    takes: ["AllocationId", "PublicIp", "InstanceId", "NetworkInterfaceId", "PrivateIpAddress", "AllowReassociation"],
    run(input) {
      const address = requireAddress(world, input);
      if (input.InstanceId === undefined && input.NetworkInterfaceId === undefined)
        throw new ApiError("MissingParameter", "Either instance ID or network interface id must be specified");
      const eniId = input.NetworkInterfaceId ?? find(world, "instance", input.InstanceId ?? "").primaryEniId;
      const eni = find(world, "eni", eniId);
      const privateAddress = input.PrivateIpAddress ?? eni.addresses[0]?.address ?? "";
      const mapped = eni.addresses.find((one) => one.address === privateAddress);
      if (mapped === undefined)
        throw new ApiError(
          "InvalidParameterValue",
          `The private IP address ${privateAddress} does not belong to ${eni.id}`,
        );
      const gateway = world.store.all("internet-gateway").some((one) => one.vpcId === eni.vpcId);
      if (!gateway)
        throw new ApiError("Gateway.NotAttached", `Network ${eni.vpcId} is not attached to any internet gateway`);
      if (address.association !== undefined && input.AllowReassociation !== true)
        throw new ApiError(
          "Resource.AlreadyAssociated",
          `resource ${address.id} is already associated with associate-id ${address.association.id}`,
        );
      if (mapped.allocationId !== undefined) disassociate(world, find(world, "address", mapped.allocationId));
      if (address.association !== undefined) disassociate(world, address);
      return {
        AssociationId: associate(world, find(world, "address", address.id), find(world, "eni", eniId), privateAddress),
      };
    },
  },
  DisassociateAddress: {
    takes: ["AssociationId", "PublicIp"],
    run({ AssociationId, PublicIp }) {
      const address =
        AssociationId === undefined
          ? requireAddress(world, { PublicIp })
          : world.store.all("address").find((one) => one.association?.id === AssociationId);
      if (address?.association === undefined)
        throw new ApiError(
          "InvalidAssociationID.NotFound",
          `The association ID '${AssociationId ?? ""}' does not exist`,
        );
      if (world.store.get("eni", address.association.eniId)?.attachment?.kind === "nat-gateway")
        throw new ApiError("AuthFailure", "You do not have permission to access the specified resource.", 403);
      disassociate(world, address);
      return {};
    },
  },
});

function requireAddress(
  world: World,
  { AllocationId, PublicIp }: { AllocationId?: string | undefined; PublicIp?: string | undefined },
): Address {
  if (AllocationId !== undefined) return find(world, "address", AllocationId);
  if (PublicIp === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter AllocationId");
  const address = world.store.all("address").find((one) => one.publicAddress === PublicIp);
  if (address === undefined) throw new ApiError("InvalidAddress.NotFound", `Address '${PublicIp}' not found.`);
  return address;
}

function render(world: World, address: Address): AddressOutput {
  const { association } = address;
  const attachment = association === undefined ? undefined : world.store.get("eni", association.eniId)?.attachment;
  return {
    AllocationId: address.id,
    ...(association === undefined
      ? {}
      : {
          AssociationId: association.id,
          NetworkInterfaceId: association.eniId,
          NetworkInterfaceOwnerId: world.accountId,
          PrivateIpAddress: association.privateAddress,
        }),
    ...(attachment?.kind === "instance" ? { InstanceId: attachment.instanceId } : {}),
    Domain: "vpc",
    Tags: tagList(address.tags),
    PublicIpv4Pool: "amazon",
    NetworkBorderGroup: world.region,
    PublicIp: address.publicAddress,
  };
}

const filtersOf = (world: World): FilterTable<Address> => ({
  "allocation-id": (address) => [address.id],
  "association-id": (address) => [address.association?.id],
  domain: () => ["vpc"],
  "instance-id": (address) => [render(world, address).InstanceId],
  "network-border-group": () => [world.region],
  "network-interface-id": (address) => [address.association?.eniId],
  "network-interface-owner-id": (address) => (address.association === undefined ? [] : [world.accountId]),
  "private-ip-address": (address) => [address.association?.privateAddress],
  "public-ip": (address) => [address.publicAddress],
});
