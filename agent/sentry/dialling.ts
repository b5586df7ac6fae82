import type { X509Svid } from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import { type Connection, type DialOptions, dial } from './connection.js'

/** Connects to one of several sentries, presenting the given SVID or none. Throws what `dial` throws. */
export type Dialler = (identity: X509Svid | undefined, signal: AbortSignal) => Promise<Connection>

export interface DiallerOptions extends Omit<DialOptions, 'address' | 'identity'> {
  /** At least one. */
  readonly addresses: readonly string[]
}

/** Stays with the sentry that answered last; when it does not, tries each of the others once. */
export function stickyDialler({ addresses, ...options }: DiallerOptions): Dialler {
  let preferred = 0
  return async (identity, signal) => {
    let failure: Error | undefined
    for (let tried = 0; tried < addresses.length; tried += 1) {
      const index = (preferred + tried) % addresses.length
      const address = addresses[index] ?? ''
      try {
        const connection = await dial({ ...options, address, identity }, signal)
        preferred = index
        return connection
      } catch (error) {
        signal.throwIfAborted()
        failure = moreTelling(failure, error as Error)
      }
    }
    throw failure ?? new AgentError('CS_SENTRY_UNAVAILABLE', 'no sentry is configured')
  }
}

/** That one sentry is down says less than that another cannot be trusted. */
function moreTelling(before: Error | undefined, error: Error): Error {
  return before && isUnavailable(error) ? before : error
}

function isUnavailable(error: Error): boolean {
  return error instanceof AgentError && error.code === 'CS_SENTRY_UNAVAILABLE'
}
