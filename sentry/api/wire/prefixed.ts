import { SpiffeError } from '../../../spiffe/index.js'
import { SentryError } from '../../errors.js'

/**
 * Runs `read` and puts what failed in front of why. What is wrong with the input itself becomes
 * `CS_REQUEST_INVALID`; a refusal with a meaning of its own keeps its code.
 */
export function prefixed<T>(what: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof SpiffeError) {
      throw new SentryError('CS_REQUEST_INVALID', `${what}: ${error.message}`, { cause: error })
    }
    if (error instanceof SentryError) {
      throw new SentryError(error.code, `${what}: ${error.message}`, { cause: error })
    }
    throw error
  }
}
