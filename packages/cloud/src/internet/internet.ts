/**
 * The hosts of the internet namespace, all served by this process through descriptors: AWS's API endpoints (plain and TLS),
 * the echo host (HTTP, HTTPS, port 7), public DNS.
 */
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import { join } from "node:path";
import { listenTcp } from "@underlay/kernel/sockets";
import { answerHttp, startEcho } from "./echo.ts";
import { ensureCertificate } from "./server-certificate.ts";
import { apiAddress, echoAddress, internetNetns, publicDnsAddress } from "../fabric/places.ts";
import { startDns } from "../resolver/dns-server.ts";
import { internetHosts, resolveOutside } from "../resolver/names.ts";
import type { ListenerOptions } from "../fabric/seam.ts";

export type InternetOptions = Pick<
  ListenerOptions,
  "clusterId" | "stateDir" | "region" | "caCertFile" | "caKeyFile" | "view"
>;

export async function startInternet(options: InternetOptions): Promise<{ close(): void }> {
  const { clusterId, region, caCertFile, caKeyFile, stateDir, view } = options;
  const netns = internetNetns(clusterId);
  const certificate = (names: readonly string[]) =>
    ensureCertificate({ directory: join(stateDir, "cloud/tls"), caCertFile, caKeyFile, names });
  const serveAws: RequestListener = (request, response) => view.handleAwsRequest(request, response);

  const api = await certificate(apiNames(region));
  const hosts = await certificate(Object.keys(internetHosts));
  const closers = [
    serve(createServer(serveAws), netns, apiAddress, 80),
    serve(createTlsServer(api, serveAws), netns, apiAddress, 443),
    serve(createServer(answerHttp), netns, echoAddress, 80),
    serve(createTlsServer(hosts, answerHttp), netns, echoAddress, 443),
    startEcho(netns, echoAddress),
    startDns({ netns, address: publicDnsAddress, resolve: (name) => resolveOutside(name, view.state()) }),
  ];
  return { close: () => closers.forEach((closer) => closer.close()) };
}

/** What the endpoint's certificate covers; a wildcard stands for one label only. */
const apiNames = (region: string): string[] => [
  `*.${region}.amazonaws.com`,
  "*.amazonaws.com",
  `*.ecr.${region}.amazonaws.com`,
  `*.dkr.ecr.${region}.amazonaws.com`,
  apiAddress,
];

/** Starts an HTTP server on an address of a namespace; closing it ends its connections, which would keep the namespace alive. */
export function serve(server: Server | TlsServer, netns: string, address: string, port: number): { close(): void } {
  // Longer than clients keep a connection for reuse: they must not send into one that is just being closed.
  server.keepAliveTimeout = 60_000;
  server.listen({ fd: listenTcp({ netns, address, port }) });
  return {
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
