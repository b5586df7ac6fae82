import type { OwnIdentity, OwnIdentityStore } from './sentry/own-identity.js'

export interface OwnStoreOptions {
  readonly initial: Pick<OwnRecord, 'own' | 'banned' | 'spentEvidence'>
  /** Seals everything that the agent holds, this record included. */
  readonly save: () => Promise<void>
  /** Takes the identities of the workloads away. */
  readonly onWipe: () => void
}

/** What is to be sealed about the agent itself. */
export interface OwnRecord {
  readonly own: OwnIdentity | undefined
  readonly banned: boolean
  readonly spentEvidence: readonly string[]
}

export interface OwnStore extends OwnIdentityStore {
  record(): OwnRecord
}

/** Spent tokens are of no use to anybody; the last few tell that a configured one is among them. */
const MAX_SPENT = 16

export function ownStore({ initial, save, onWipe }: OwnStoreOptions): OwnStore {
  let { own, banned } = initial
  let spent = initial.spentEvidence
  /** Being sealed; not to be used before it is. */
  let next: OwnIdentity | undefined

  return {
    record: () => ({ own: next ?? own, banned, spentEvidence: spent }),
    current: () => own,
    prepare: save,
    async keep(fresh, evidenceId) {
      // A single-use token has been spent for it: it counts even if it cannot be sealed.
      if (evidenceId !== undefined) {
        own = fresh
        banned = false
        spent = [...spent, evidenceId].slice(-MAX_SPENT)
      }
      next = fresh
      try {
        await save()
        own = fresh
      } finally {
        next = undefined
      }
    },
    async wipe() {
      own = undefined
      banned = true
      onWipe()
      // It is tried again until it succeeds; whatever is on disk, the sentry refuses it.
      await save().catch(() => undefined)
    },
    isSpent: (evidenceId) => spent.includes(evidenceId),
    isBanned: () => banned,
  }
}
