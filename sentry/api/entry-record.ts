import type { RegistrationEntry } from '../registration/entry.js'
import { nameOf } from './caller.js'
import type { ApiContext } from './context.js'
import type { CallContext } from './server-calls.js'

export interface EntryChange {
  readonly change: 'created' | 'updated' | 'deleted'
  readonly entry: RegistrationEntry
}

/** Leaves the record of a change of an entry, also of one that follows from something else. */
export function recordEntry(
  { audit }: Pick<ApiContext, 'audit'>,
  { caller }: Pick<CallContext, 'caller'>,
  { change, entry }: EntryChange,
): void {
  audit.record({
    type: 'entry.changed.v1',
    subject: entry.spiffeId,
    requester: nameOf(caller),
    details: {
      change,
      entryId: entry.id,
      parentId: entry.parentId,
      revision: String(entry.revision),
      ...(entry.admin && { admin: true }),
      ...(entry.downstream && { downstream: true }),
    },
  })
}
