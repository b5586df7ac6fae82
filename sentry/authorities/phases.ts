import type { AuditDetail } from '../audit/event.js'
import type { AuthorityState } from './state.js'

/** One record for each authority that came or went between two states. */
export function phasesOf(change: {
  readonly before: AuthorityState | undefined
  readonly after: AuthorityState
}): Readonly<Record<string, AuditDetail>>[] {
  const before = authoritiesIn(change.before)
  const after = authoritiesIn(change.after)
  return [
    ...[...after].filter(([keyId]) => !before.has(keyId)).map(record('created')),
    ...[...before].filter(([keyId]) => !after.has(keyId)).map(record('removed')),
  ]
}

function record(phase: 'created' | 'removed') {
  return ([keyId, authority]: [string, Readonly<Record<string, AuditDetail>>]) => ({
    phase,
    keyId,
    ...authority,
  })
}

function authoritiesIn(state: AuthorityState | undefined) {
  const found = new Map<string, Readonly<Record<string, AuditDetail>>>()
  if (state === undefined) return found
  for (const authority of ['root', 'issuer'] as const) {
    const { subjectKeyId = '', serialNumber, notAfter } = state[authority].certificate
    found.set(subjectKeyId, { authority, serialNumber, notAfter })
  }
  for (const { keyId, algorithm, activeFrom, expiresAt } of state.jwtKeys) {
    found.set(keyId, { authority: 'jwt', algorithm, activeFrom, notAfter: expiresAt })
  }
  return found
}
