/** The account's one set of DHCP options: AmazonProvidedDNS and the region's internal domain. */
export const dhcpOptionsId = "dopt-0a1b2c3d4e5f60718";
