/**
 * Streaming subresources: log, exec, attach, portforward and proxy.
 *
 * Every one finds the pod (or node, service), refuses what cannot work with upstream's words before the client's upgrade is
 * accepted, opens the way to the kubelet or pod, and joins the two. Never here: authorization and admission of CONNECT (routes).
 * Read next: `kubelet.ts`, `remote-command.ts`, `port-forward.ts`.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { badRequest, methodNotAllowed, notFound, resourceNotServed } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { Seams, ServerContext, StreamingTarget } from "../seams.ts";
import { KubeletDialer } from "./kubelet.ts";
import { streamLog } from "./log.ts";
import { containerOf, mustNotBeCompleted } from "./pod-target.ts";
import { joinPortForward } from "./port-forward.ts";
import { proxyRequest, proxyUpgrade } from "./proxy.ts";
import { commandQuery, joinCommand } from "./remote-command.ts";

/** The streaming seam. */
export function createStreaming(context: ServerContext): Pick<Seams, "stream" | "upgrade"> {
  const dialer = new KubeletDialer(context.authority, context.objects);
  const podOf = (target: StreamingTarget): ApiObject => {
    const pod = context.objects.get("/pods", target.namespace, target.name);
    if (!pod) throw notFound({ group: "", plural: "pods" }, target.name);
    return pod;
  };
  const reach = { dialer, objects: context.objects };

  return {
    stream: async (request, response, target) => {
      switch (target.subresource) {
        case "log":
          if (request.method !== "GET") throw methodNotAllowed();
          return streamLog(response, podOf(target), target.query, dialer);
        case "proxy":
          return proxyRequest(request, response, target, reach);
        case "exec":
        case "attach":
        case "portforward":
          throw badRequest("unable to upgrade: missing upgrade headers in request: Upgrade request required");
        default:
          throw resourceNotServed();
      }
    },
    upgrade: async (request, socket, head, target) => {
      // A client that goes away at any moment must not take the process with it.
      socket.on("error", () => socket.destroy());
      switch (target.subresource) {
        case "exec":
        case "attach":
          return command(request, socket, head, target, podOf(target), dialer, target.subresource);
        case "portforward":
          return portForward(request, socket, head, target, podOf(target), dialer);
        case "proxy":
          return proxyUpgrade(request, socket, head, target, reach);
        default:
          throw resourceNotServed();
      }
    },
  };
}

async function command(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  target: StreamingTarget,
  pod: ApiObject,
  dialer: KubeletDialer,
  doing: "exec" | "attach",
): Promise<void> {
  mustNotBeCompleted(pod, doing);
  const container = containerOf(pod, target.query.get("container"));
  const { streams, kubelet: query } = commandQuery(target.query);
  if (doing === "exec" && !query.has("command"))
    throw badRequest("you must specify at least one command for the container");
  const address = dialer.addressOfPod(pod);
  const kubelet = await dialer.open(
    address,
    `/${doing}/${target.namespace}/${target.name}/${container}?${query.toString()}`,
    "v5.channel.k8s.io",
  );
  try {
    await joinCommand(request, socket, head, kubelet, streams);
  } catch (error) {
    kubelet.resume();
    kubelet.close(1000);
    throw error;
  }
}

async function portForward(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  target: StreamingTarget,
  pod: ApiObject,
  dialer: KubeletDialer,
): Promise<void> {
  const address = dialer.addressOfPod(pod);
  await joinPortForward(request, socket, head, target.query, (port) =>
    dialer.open(address, `/portForward/${target.namespace}/${target.name}?ports=${port}`, "v4.channel.k8s.io"),
  );
}
