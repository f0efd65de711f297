/** The two local HTTP doors of ipamd: introspection (what it holds) and Prometheus metrics. */
import { createServer, type Server } from "node:http";
import type { Datastore } from "./datastore.ts";
import type { EniConfigAnswer } from "./eni-config.ts";
import type { Metrics } from "./metrics.ts";
import type { Pool } from "./pool.ts";
import type { Settings } from "./settings.ts";

type Served = {
  readonly datastore: Datastore;
  readonly pool: Pool;
  readonly settings: Settings;
  readonly eniConfig: () => EniConfigAnswer;
  readonly now: () => number;
};

/** `/v1/enis` and the settings; addresses and pods are named, container ids and interfaces are not. */
export function serveIntrospection(served: Served): Server {
  const { settings } = served;
  const pages: Record<string, () => unknown> = {
    "/v1/enis": () => ({ 0: describeEnis(served) }),
    "/v1/pool": () => ({ because: served.pool.because, view: served.pool.view() }),
    "/v1/eni-configs": () => served.eniConfig(),
    "/v1/networkutils-env-settings": () => ({
      AWS_VPC_CNI_NODE_PORT_SUPPORT: settings.nodePortSupport,
      AWS_VPC_K8S_CNI_CONNMARK: settings.connmark,
      AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: settings.excludeSnatCidrs,
      AWS_VPC_K8S_CNI_EXTERNALSNAT: settings.externalSnat,
      AWS_VPC_K8S_CNI_RANDOMIZESNAT: settings.randomizeSnat,
      AWS_EXTERNAL_SERVICE_CIDRS: settings.externalServiceCidrs,
    }),
    "/v1/ipamd-env-settings": () => ({
      WARM_ENI_TARGET: settings.warmEniTarget,
      WARM_IP_TARGET: settings.warmIpTarget,
      MINIMUM_IP_TARGET: settings.minimumIpTarget,
      WARM_PREFIX_TARGET: settings.warmPrefixTarget,
      ENABLE_PREFIX_DELEGATION: served.datastore.prefixMode,
      AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: settings.customNetworking,
      MAX_ENI: settings.maxEni ?? -1,
      IP_COOLDOWN_PERIOD: settings.cooldownMs / 1000,
      ENABLE_SUBNET_DISCOVERY: settings.subnetDiscovery,
    }),
  };
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    const page = pages[path];
    const body = page ? page() : path === "/" ? { AvailableCommands: Object.keys(pages) } : undefined;
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(body === undefined ? "404 page not found\n" : `${JSON.stringify(body)}\n`);
  });
  const address = settings.introspectionBindAddress;
  if (address.startsWith("unix:")) server.listen(address.slice("unix:".length));
  else server.listen(Number(address.slice(address.lastIndexOf(":") + 1)), address.slice(0, address.lastIndexOf(":")));
  return server;
}

export function serveMetrics(metrics: Metrics, port: number): Server {
  const server = createServer((request, response) => {
    if (request.url !== "/metrics") {
      response.writeHead(404).end();
      return;
    }
    void metrics.registry.metrics().then((text) => {
      response.writeHead(200, { "content-type": metrics.registry.contentType });
      response.end(text);
    });
  });
  return server.listen(port);
}

function describeEnis({ datastore, now }: Served): unknown {
  const counts = datastore.counts(now());
  const enis = datastore.enis().map((eni) => [
    eni.eniId,
    {
      ID: eni.eniId,
      IsPrimary: eni.primary,
      IsTrunk: eni.trunk,
      IsEFA: eni.efa,
      IsExcludedForPodIPs: eni.excluded,
      DeviceNumber: eni.deviceNumber,
      RouteTableID: eni.routeTable,
      SubnetID: eni.subnetId,
      AvailableIPv4Cidrs: Object.fromEntries(
        [...eni.cidrs.values()].map((cidr) => [
          cidr.cidr,
          {
            Cidr: { IP: cidr.cidr.split("/")[0], Mask: cidr.prefix ? "////8A==" : "/////w==" },
            IPAddresses: Object.fromEntries(
              [...cidr.addresses.values()]
                .filter((record) => record.allocation || record.releasedAt !== undefined)
                .map((record) => [
                  record.address,
                  {
                    Address: record.address,
                    IPAMKey: { networkName: record.allocation?.key.networkName ?? "", containerID: "", ifName: "" },
                    IPAMMetadata: record.allocation
                      ? { k8sPodNamespace: record.allocation.pod.namespace, k8sPodName: record.allocation.pod.name }
                      : {},
                    State: datastore.stateOf(record, now()),
                  },
                ]),
            ),
            IsPrefix: cidr.prefix,
            AddressFamily: "4",
          },
        ]),
      ),
    },
  ]);
  return { TotalIPs: counts.total, AssignedIPs: counts.assigned, ENIs: Object.fromEntries(enis) };
}
