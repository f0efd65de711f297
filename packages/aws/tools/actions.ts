/** The actions whose shapes are generated, per service. An action joins here first, then `generate-models.ts` runs. */
export const actions: Readonly<Record<string, { readonly folder: string; readonly names: readonly string[] }>> = {
  ec2: {
    folder: "ec2/2016-11-15",
    names: words(`
      CreateVpc DeleteVpc DescribeVpcs DescribeVpcAttribute ModifyVpcAttribute
      AssociateVpcCidrBlock DisassociateVpcCidrBlock
      CreateSubnet DeleteSubnet DescribeSubnets ModifySubnetAttribute
      CreateSubnetCidrReservation DeleteSubnetCidrReservation GetSubnetCidrReservations
      CreateRouteTable DeleteRouteTable DescribeRouteTables AssociateRouteTable DisassociateRouteTable
      ReplaceRouteTableAssociation CreateRoute ReplaceRoute DeleteRoute
      CreateInternetGateway DeleteInternetGateway DescribeInternetGateways AttachInternetGateway DetachInternetGateway
      CreateNatGateway DeleteNatGateway DescribeNatGateways
      AllocateAddress ReleaseAddress DescribeAddresses AssociateAddress DisassociateAddress DescribeAddressesAttribute
      CreateSecurityGroup DeleteSecurityGroup DescribeSecurityGroups GetSecurityGroupsForVpc
      AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress RevokeSecurityGroupIngress RevokeSecurityGroupEgress
      DescribeSecurityGroupRules ModifySecurityGroupRules DescribeSecurityGroupReferences
      UpdateSecurityGroupRuleDescriptionsIngress UpdateSecurityGroupRuleDescriptionsEgress
      CreateNetworkInterface DeleteNetworkInterface DescribeNetworkInterfaces DescribeNetworkInterfaceAttribute
      ModifyNetworkInterfaceAttribute ResetNetworkInterfaceAttribute AttachNetworkInterface DetachNetworkInterface
      AssignPrivateIpAddresses UnassignPrivateIpAddresses AssignIpv6Addresses UnassignIpv6Addresses
      CreateTags DeleteTags DescribeTags
      RunInstances TerminateInstances DescribeInstances DescribeInstanceStatus DescribeInstanceAttribute
      ModifyInstanceAttribute ModifyInstanceMetadataOptions RebootInstances
      DescribeInstanceTypes DescribeInstanceTypeOfferings
      DescribeAvailabilityZones DescribeRegions DescribeAccountAttributes
      DescribeManagedPrefixLists GetManagedPrefixListEntries DescribePrefixLists
      CreateManagedPrefixList ModifyManagedPrefixList DeleteManagedPrefixList
      DescribeNetworkAcls CreateNetworkAcl DeleteNetworkAcl CreateNetworkAclEntry ReplaceNetworkAclEntry
      DeleteNetworkAclEntry ReplaceNetworkAclAssociation DescribeDhcpOptions
      CreateLaunchTemplate DescribeLaunchTemplates DescribeLaunchTemplateVersions DeleteLaunchTemplate`),
  },
  eks: {
    folder: "eks/2017-11-01",
    names: words(`
      CreateCluster DescribeCluster ListClusters DeleteCluster UpdateClusterConfig DescribeUpdate ListUpdates
      CreateNodegroup DescribeNodegroup ListNodegroups DeleteNodegroup UpdateNodegroupConfig
      CreateAddon DescribeAddon ListAddons UpdateAddon DeleteAddon DescribeAddonVersions
      CreateAccessEntry DescribeAccessEntry ListAccessEntries UpdateAccessEntry DeleteAccessEntry
      AssociateAccessPolicy DisassociateAccessPolicy ListAssociatedAccessPolicies ListAccessPolicies
      TagResource UntagResource ListTagsForResource DescribeClusterVersions`),
  },
  autoscaling: {
    folder: "autoscaling/2011-01-01",
    names: words(`
      DescribeAutoScalingGroups UpdateAutoScalingGroup SetDesiredCapacity TerminateInstanceInAutoScalingGroup
      DescribeAutoScalingInstances DescribeTags`),
  },
  sts: { folder: "sts/2011-06-15", names: words("GetCallerIdentity AssumeRole") },
};

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}
