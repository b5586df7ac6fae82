import { SentryError } from '../errors.js'
import type { Validity } from '../svid-template.js'

/** Throws `CS_AUTHORITY_NOT_VALID`, and says by how much the clock misses. */
export function assertValidAt(
  now: Date,
  authority: { readonly name: string; readonly validity: Validity },
): void {
  const { name } = authority
  const { notBefore, notAfter } = authority.validity
  const early = notBefore - now.getTime()
  const late = now.getTime() - notAfter
  if (early > 0) {
    throw notValid(`${name} is not valid before ${text(notBefore)}, ${seconds(early)} from now`)
  }
  if (late >= 0) throw notValid(`${name} expired at ${text(notAfter)}, ${seconds(late)} ago`)
}

export function isValidAt(now: number, { notBefore, notAfter }: Validity): boolean {
  return notBefore <= now && now < notAfter
}

function notValid(message: string): SentryError {
  return new SentryError('CS_AUTHORITY_NOT_VALID', `${message} by the clock of this machine`)
}

function text(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}

function seconds(milliseconds: number): string {
  return `${Math.ceil(milliseconds / 1000)} s`
}
