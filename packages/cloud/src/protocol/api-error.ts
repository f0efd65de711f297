/** An error that an AWS API answers with. Thrown by operations, written by the protocol in the service's own format. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status = statuses[code] ?? 400) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
  }
}

/** HTTP statuses other than 400, by code. */
const statuses: Readonly<Record<string, number>> = {
  AuthFailure: 401,
  UnauthorizedOperation: 403,
  AccessDenied: 403,
  AccessDeniedException: 403,
  SignatureDoesNotMatch: 403,
  InvalidClientTokenId: 403,
  UnrecognizedClientException: 403,
  InvalidSignatureException: 403,
  MissingAuthenticationToken: 403,
  MissingAuthenticationTokenException: 403,
  ExpiredToken: 403,
  RequestExpired: 400,
  DryRunOperation: 412,
  ResourceNotFoundException: 404,
  ResourceInUseException: 409,
  RequestLimitExceeded: 503,
  InternalError: 500,
  ServerException: 500,
};
