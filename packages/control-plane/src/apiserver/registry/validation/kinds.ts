/** Validation of the built-in kinds by `<group>/<Kind>`. */
import type { FieldError } from "../../api-error.ts";
import type { ApiObject } from "../../api-object.ts";
import { otherValidations } from "./others.ts";
import { validatePod } from "./pod-spec.ts";
import { validateService } from "./service.ts";
import {
  validateCronJob,
  validateDaemonSet,
  validateDeployment,
  validateJob,
  validateReplicaSet,
  validateStatefulSet,
} from "./workloads.ts";

export type Validate = (object: ApiObject, old: ApiObject | undefined) => FieldError[];

export const validations: Readonly<Record<string, Validate>> = {
  "/Pod": (object, old) => validatePod(object, old).errors,
  "/Service": validateService,
  "apps/Deployment": validateDeployment,
  "apps/ReplicaSet": validateReplicaSet,
  "apps/StatefulSet": validateStatefulSet,
  "apps/DaemonSet": validateDaemonSet,
  "batch/Job": validateJob,
  "batch/CronJob": validateCronJob,
  ...otherValidations,
};
