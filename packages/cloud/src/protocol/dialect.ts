/** How each service words what the protocol itself refuses, and the shape of its errors. */
import { ApiError } from "./api-error.ts";
import type { AuthenticationFailure } from "./authentication.ts";
import { renderXmlError } from "./query.ts";

export type Answer = { readonly status: number; readonly headers: Record<string, string>; readonly body: string };

/** The error as the service writes it. `service` undefined: none of ours, so the form the client seems to speak. */
export function renderError(form: "ec2" | "query" | "rest-json", error: ApiError, requestId: string): Answer {
  if (form === "rest-json")
    return {
      status: error.status,
      headers: { "content-type": "application/json", "x-amzn-requestid": requestId, "x-amzn-errortype": error.code },
      body: JSON.stringify({ message: error.message }),
    };
  return {
    status: error.status,
    headers: { "content-type": form === "ec2" ? "text/xml;charset=UTF-8" : "text/xml", "x-amzn-requestid": requestId },
    body: renderXmlError(form, error, requestId),
  };
}

export function unknownAction(form: "ec2" | "query" | "rest-json", action: string, version: string): ApiError {
  if (form === "ec2") return new ApiError("InvalidAction", `The action ${action} is not valid for this web service.`);
  if (form === "query")
    return new ApiError("InvalidAction", `Could not find operation ${action} for version ${version}`);
  return new ApiError("UnknownOperationException", `Could not find operation ${action}`, 404);
}

/** A member the model knows and this cloud does not honour. */
export function unsupportedParameter(form: "ec2" | "query" | "rest-json", action: string, parameter: string): ApiError {
  const message = `The parameter ${parameter} of ${action} is not supported.`;
  return form === "rest-json"
    ? new ApiError("InvalidParameterException", message)
    : new ApiError("UnsupportedOperation", message);
}

/** The failure in the codes of the service. */
export function authenticationError(form: "ec2" | "query" | "rest-json", failure: AuthenticationFailure): ApiError {
  const validate = "AWS was not able to validate the provided access credentials";
  switch (failure.why) {
    case "missing":
      if (form === "ec2") return new ApiError("AuthFailure", validate);
      return new ApiError(
        form === "query" ? "MissingAuthenticationToken" : "MissingAuthenticationTokenException",
        "Missing Authentication Token",
      );
    case "malformed":
      if (form === "ec2") return new ApiError("AuthFailure", `${validate}: ${failure.detail}`);
      return new ApiError(form === "query" ? "IncompleteSignature" : "IncompleteSignatureException", failure.detail);
    case "unknown-key":
    case "bad-token":
      if (form === "ec2") return new ApiError("AuthFailure", validate);
      return new ApiError(
        form === "query" ? "InvalidClientTokenId" : "UnrecognizedClientException",
        "The security token included in the request is invalid.",
      );
    case "expired":
      if (form === "ec2") return new ApiError("RequestExpired", `Request has expired. ${failure.detail}`);
      return new ApiError(form === "query" ? "ExpiredToken" : "ExpiredTokenException", failure.detail, 403);
    case "wrong-region":
      if (form === "ec2") return new ApiError("AuthFailure", validate);
      return new ApiError(form === "query" ? "SignatureDoesNotMatch" : "InvalidSignatureException", failure.detail);
    case "mismatch":
      if (form === "ec2") return new ApiError("AuthFailure", validate);
      return new ApiError(
        form === "query" ? "SignatureDoesNotMatch" : "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
      );
  }
}
