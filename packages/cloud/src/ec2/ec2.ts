/** EC2: every operation this cloud performs. One file per resource beside this one; shared parts are ids, filters, pages, tags. */
import { ec2Table } from "@underlay/aws/generated/ec2-table";
import { serviceOf, type Service } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { addressOperations } from "./addresses.ts";
import { instanceTypeOperations } from "./instance-types.ts";
import { instanceOperations } from "./instances.ts";
import { internetGatewayOperations } from "./internet-gateways.ts";
import { launchTemplateOperations } from "./launch-templates.ts";
import { natGatewayOperations } from "./nat-gateways.ts";
import { networkAclOperations } from "./network-acls.ts";
import { networkInterfaceAddressOperations } from "./network-interface-addresses.ts";
import { networkInterfaceAttachmentOperations } from "./network-interface-attachments.ts";
import { networkInterfaceOperations } from "./network-interfaces.ts";
import { prefixListOperations } from "./prefix-lists.ts";
import { routeTableOperations } from "./route-tables.ts";
import { securityGroupRuleOperations } from "./security-group-rules.ts";
import { securityGroupOperations } from "./security-groups.ts";
import { subnetOperations } from "./subnets.ts";
import { tagOperations } from "./tags.ts";
import { vpcOperations } from "./vpcs.ts";
import { zoneOperations } from "./zones.ts";

export function ec2Service(world: World): Service {
  return serviceOf(
    "ec2",
    ec2Table,
    vpcOperations(world),
    subnetOperations(world),
    routeTableOperations(world),
    internetGatewayOperations(world),
    natGatewayOperations(world),
    addressOperations(world),
    securityGroupOperations(world),
    securityGroupRuleOperations(world),
    prefixListOperations(world),
    networkAclOperations(world),
    networkInterfaceOperations(world),
    networkInterfaceAddressOperations(world),
    networkInterfaceAttachmentOperations(world),
    instanceOperations(world),
    instanceTypeOperations(world),
    launchTemplateOperations(world),
    tagOperations(world),
    zoneOperations(world),
  );
}
