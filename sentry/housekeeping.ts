import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { TrustDomain } from '../spiffe/index.js'
import { codeOf } from './api/reply.js'
import { agentTable } from './attestation/agent-record.js'
import { pruneJoinTokens } from './attestation/join-token.js'
import { publishOwnBundle } from './bundles/own-bundle.js'
import type { SentryMetrics } from './metrics.js'
import type { OwnIdentity } from './own-identity.js'
import type { Policies } from './policy/policies.js'
import type { ReportBook } from './policy/reports.js'
import { pruneEntries } from './registration/register.js'
import type { SentryState } from './state.js'

export interface HousekeepingOptions extends SentryState {
  readonly trustDomain: TrustDomain
  readonly identities: readonly OwnIdentity[]
  readonly policies: Policies
  readonly reports: ReportBook
  readonly metrics: SentryMetrics
  readonly clock: Clock
  readonly log: Log
}

export interface Housekeeping {
  /** Reason codes of what failed in the last round. */
  failures(): readonly string[]
  stop(): Promise<void>
}

const INTERVAL_MS = 10_000
/** Changes that whoever follows the log can still catch up with. */
const LOG_ROWS = 100_000
/** How long what an agent reported is shown after it left. */
const REPORTS_MS = 60 * 60_000

/** Does every ten seconds what time makes due. What fails is tried again in the next round. */
export function keepHouse(options: HousekeepingOptions): Housekeeping {
  const { clock, log } = options
  const stopping = new AbortController()
  let failures: readonly string[] = []

  const round = async () => {
    const failed: string[] = []
    for (const [name, chore] of Object.entries(chores)) {
      try {
        await chore(options)
      } catch (error) {
        failed.push(codeOf(error))
        log.error({ code: codeOf(error), chore: name, error }, 'chore failed')
      }
    }
    failures = failed
  }
  const rounds = async () => {
    while (!stopping.signal.aborted) {
      await clock.sleep(INTERVAL_MS, stopping.signal).catch(() => undefined)
      if (!stopping.signal.aborted) await round()
    }
  }
  countExpiries(options)
  const done = rounds()
  return {
    failures: () => failures,
    async stop() {
      stopping.abort()
      await done
    },
  }
}

type Chore = (options: HousekeepingOptions) => void | Promise<unknown>

const chores: Readonly<Record<string, Chore>> = {
  'rotate authorities': async (options) => {
    await options.authorities.rotateIfDue()
    await publishOwnBundle(options)
    countExpiries(options)
  },
  'renew own identities': ({ identities }) => {
    for (const identity of identities) identity.renewIfDue()
  },
  'prune entries': async ({ datastore, audit, clock }) => {
    const { value: expired } = await datastore.write((draft) =>
      pruneEntries(draft, clock.now().getTime()),
    )
    for (const { id: entryId, spiffeId: subject } of expired) {
      const details = { change: 'expired', entryId }
      audit.record({ type: 'entry.changed.v1', subject, requester: 'local', details })
    }
  },
  'prune join tokens': ({ datastore, clock }) =>
    datastore.write((draft) => pruneJoinTokens(draft, clock.now().getTime())),
  'compile policies': ({ policies }) => policies.compileDue(),
  'trim the log': ({ datastore }) => datastore.trimLog(LOG_ROWS),
  'forget reports': ({ reports, datastore, clock }) => {
    const agents = datastore.view(agentTable)
    const leftBefore = clock.now().getTime() - REPORTS_MS
    reports.forget({ leftBefore, gone: (agent) => agents.get(agent) === undefined })
  },
  'write audit records': ({ audit }) => {
    audit.flush()
    const failure = audit.failure()
    if (failure) throw failure
  },
}

function countExpiries({ authorities, metrics }: HousekeepingOptions): void {
  const { root, issuer, jwt } = authorities.status()
  metrics.authorityExpires({ name: 'root', at: root.notAfter })
  metrics.authorityExpires({ name: 'issuer', at: issuer.notAfter })
  const active = jwt.filter(({ phase }) => phase === 'active').map(({ expiresAt }) => expiresAt)
  metrics.authorityExpires({ name: 'jwt', at: Math.min(...active) })
}
