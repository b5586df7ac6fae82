import type { Reason } from '../spiffe/index.js'

interface FailureReason extends Reason {
  readonly status: number
  /** The gRPC status that says the same. */
  readonly grpc: number
}

const NOT_FOUND = { status: 404, grpc: 12 } as const
const BAD_GATEWAY = { status: 502, grpc: 14 } as const
const UNAVAILABLE = { status: 503, grpc: 14 } as const
const TIMEOUT = { status: 504, grpc: 4 } as const

/** Why a request that was let through got no answer from the other side. */
export const failureReasons = {
  'no-route': {
    ...NOT_FOUND,
    severity: 'warning',
    what: 'No route of the outbound listener is for the host of the request.',
    todo: 'Add a route for the host, or correct the Host header of the app.',
  },
  'no-identity': {
    ...UNAVAILABLE,
    severity: 'error',
    what: 'The sidecar holds no SVID that it could present.',
    todo: 'Look at /readyz of the sidecar and of the agent.',
  },
  'upstream-unreachable': {
    ...BAD_GATEWAY,
    severity: 'error',
    what: 'No connection to the app or peer could be made.',
    todo: 'Check that it runs and listens at the configured address.',
  },
  'upstream-timeout': {
    ...TIMEOUT,
    severity: 'error',
    what: 'The app or peer did not answer in time.',
    todo: 'Look at its load; the limits are listed in docs/sidecar.md.',
  },
  'upstream-closed': {
    ...BAD_GATEWAY,
    severity: 'error',
    what: 'The app or peer closed the connection before its answer was complete.',
    todo: 'Look at its log. A peer that refuses our certificate does this too.',
  },
  'upstream-invalid': {
    ...BAD_GATEWAY,
    severity: 'error',
    what: 'The answer of the app or peer breaks the rules of HTTP; the detail in the log says which.',
    todo: 'Correct the app; an answer that can be read in two ways is not passed on.',
  },
  'upstream-busy': {
    ...UNAVAILABLE,
    severity: 'warning',
    what: 'All connections that the sidecar may have to the app or peer are in use.',
    todo: 'Find out why answers take so long, or raise the limit.',
  },
  'peer-refused': {
    ...BAD_GATEWAY,
    severity: 'error',
    what: 'The peer did not prove one of the SPIFFE IDs that are expected at its address.',
    todo: 'Compare the code and the SPIFFE ID in the log with the expect setting of the route.',
  },
  draining: {
    ...UNAVAILABLE,
    severity: 'info',
    what: 'The sidecar is stopping and takes no new request.',
    todo: 'Send the request again; another instance answers it.',
  },
} as const satisfies Record<string, FailureReason>

export type FailureCode = keyof typeof failureReasons

export interface Failure {
  readonly code: FailureCode
  /** For the log only. */
  readonly detail?: string
}
