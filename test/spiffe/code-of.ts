import { SpiffeError } from '../../spiffe/index.js'

/** The code of the refusal, or `accepted`. Anything but a coded error is a defect and is thrown on. */
export function codeOf(act: () => unknown): string {
  return refusalOf(act)?.code ?? 'accepted'
}

export function refusalOf(act: () => unknown): SpiffeError | undefined {
  try {
    act()
    return undefined
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}
