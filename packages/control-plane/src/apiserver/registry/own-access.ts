/** How the server's own parts read and write objects: the same registry, without authorization and admission. */
import type { ApiObject } from "../api-object.ts";
import type { ObjectReader, ObjectWriter } from "../seams.ts";
import type { Store } from "../store/store.ts";
import { decodeObject } from "./decode-object.ts";
import { deleteObject } from "./deletion.ts";
import type { Registry } from "./registry.ts";
import type { WriteOptions } from "./write-options.ts";

const asServer: WriteOptions = {
  user: { username: "system:apiserver", groups: ["system:masters", "system:authenticated"] },
  dryRun: false,
  fieldManager: "kube-apiserver",
  fieldValidation: "Ignore",
  force: true,
  admission: false,
  warn: () => {},
};

export function createObjectReader(store: Store): ObjectReader {
  return {
    get: (storage, namespace, name) => {
      const entry = store.get(storage, namespace, name);
      return entry === undefined ? undefined : (JSON.parse(entry.json) as ApiObject);
    },
    list: (storage, namespace) => store.list(storage, namespace).map((entry) => JSON.parse(entry.json) as ApiObject),
    subscribe: (storage, listener) =>
      store.subscribe(storage, ({ type, entry }) => listener({ type, object: JSON.parse(entry.json) as ApiObject })),
    revision: (storage) => store.revisionOf(storage),
  };
}

export function createObjectWriter(registry: Registry, now: () => number): ObjectWriter {
  return {
    create: (info, object) =>
      registry.create(info, object.metadata.namespace ?? "", decodeObject(object, info, asServer), asServer),
    update: (info, namespace, name, change, subresource) =>
      registry.update(
        info,
        {
          namespace,
          name,
          subresource: subresource ?? "",
          change: (current) => {
            const changed = change(current);
            return changed === undefined ? undefined : decodeObject(changed, info, asServer);
          },
        },
        asServer,
      ),
    async delete(info, namespace, name, options = {}) {
      await deleteObject(
        registry,
        info,
        namespace,
        name,
        {
          ...(options.gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds: options.gracePeriodSeconds }),
          ...(options.propagationPolicy === undefined
            ? {}
            : { propagationPolicy: options.propagationPolicy as "Background" }),
          ...(options.uid === undefined ? {} : { preconditions: { uid: options.uid } }),
        },
        asServer,
        now,
      );
    },
  };
}
