import { status } from '@grpc/grpc-js'
import { SpiffeError } from '../errors.js'
import { type EndpointAddress, formatEndpointAddress } from './address.js'

/** What grpc-js tells of a call that failed. */
export interface CallFailure {
  readonly code: status
  readonly details: string
}

/** How grpc-js words what the system said to `connect`. */
const DIAL_ERROR = /Error: connect (E[A-Z]+)/

/** What is wrong when a dial fails with one of these; other system errors may pass by themselves. */
const dialErrors: Readonly<Record<string, 'CS_SOCKET_MISSING' | 'CS_SOCKET_DENIED'>> = {
  ENOENT: 'CS_SOCKET_MISSING',
  ENOTDIR: 'CS_SOCKET_MISSING',
  ENOTSOCK: 'CS_SOCKET_MISSING',
  ECONNREFUSED: 'CS_SOCKET_MISSING',
  EACCES: 'CS_SOCKET_DENIED',
  EPERM: 'CS_SOCKET_DENIED',
}

const dialMessages = {
  CS_SOCKET_MISSING: 'nothing listens at',
  CS_SOCKET_DENIED: 'this user may not open',
} as const

/** Says in our codes why a call failed (Workload Endpoint §6 and Appendix A). */
export function endpointError(failure: CallFailure, address: EndpointAddress): SpiffeError {
  const { code, details } = failure
  const options = { cause: failure }
  switch (code) {
    case status.PERMISSION_DENIED:
      return new SpiffeError(
        'CS_NO_IDENTITY',
        said('no identity for this process', details),
        options,
      )
    case status.INVALID_ARGUMENT:
      return new SpiffeError('CS_ENDPOINT_REFUSED', said('invalid argument', details), options)
    case status.UNIMPLEMENTED:
      return new SpiffeError('CS_ENDPOINT_REFUSED', said('not implemented', details), options)
    case status.INTERNAL:
      // Bytes that are no protobuf message never reach our own checks.
      if (details.startsWith('Response message parsing error')) return unreadable(options)
      return unavailable(failure, address)
    default:
      return unavailable(failure, address)
  }
}

/** Whether the connection went away under a call, as opposed to the server ending the call. */
export function isConnectionLoss({ code, details }: CallFailure): boolean {
  return (
    code === status.CANCELLED || (code === status.UNAVAILABLE && details === 'Connection dropped')
  )
}

function unavailable(failure: CallFailure, address: EndpointAddress): SpiffeError {
  const at = formatEndpointAddress(address)
  const system = DIAL_ERROR.exec(failure.details)?.[1]
  const code = system === undefined ? undefined : dialErrors[system]
  if (code) {
    return new SpiffeError(code, `${dialMessages[code]} ${at} (${system})`, { cause: failure })
  }
  const message = said(`endpoint ${at} is not available`, failure.details)
  return new SpiffeError('CS_ENDPOINT_UNAVAILABLE', message, { cause: failure })
}

function unreadable(options: ErrorOptions): SpiffeError {
  return new SpiffeError('CS_RESPONSE_INVALID', 'response is not the message expected', options)
}

function said(what: string, details: string): string {
  return details === '' ? what : `${what}: ${details}`
}
