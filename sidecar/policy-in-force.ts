import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import { type CompiledPolicy, PolicyError } from '../policies/index.js'
import type { SignedSnapshot, SnapshotReport } from '../proto/gen/countersign/policy/v1/policy.js'
import { type BundleSource, SpiffeError, type SpiffeId } from '../spiffe/index.js'
import { SidecarError } from './errors.js'
import type { PolicySource } from './inbound-gate.js'
import { checkedPolicy } from './snapshot-check.js'
import type { SnapshotFile } from './snapshot-file.js'

/** The policy of one target: the last good snapshot, whatever came after it. */
export interface PolicyInForce extends PolicySource {
  /** Takes over what was saved, if it still holds. */
  restore(): Promise<void>
  /** Checks a snapshot and changes over to it, or keeps what is in force. Gives what to tell the agent. */
  take(signed: SignedSnapshot): Promise<SnapshotReport>
}

export interface PolicyInForceOptions {
  readonly target: SpiffeId
  readonly instance: string
  readonly bundles: BundleSource
  readonly file: SnapshotFile
  readonly clock: Clock
  readonly log: Log
}

export function policyInForce(options: PolicyInForceOptions): PolicyInForce {
  const { target, bundles, file, clock, log } = options
  const listeners = new Set<() => void>()
  let current: CompiledPolicy | undefined

  const adopt = (signed: SignedSnapshot): CompiledPolicy => {
    const policy = checkedPolicy(signed, { target, bundles, now: clock.now() })
    assertNotOlder(policy, current)
    const changed = policy.id !== current?.id
    if (changed) {
      current = policy
      for (const listener of listeners) listener()
    }
    return policy
  }

  return {
    current: () => current,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async restore() {
      try {
        const saved = await file.read()
        if (!saved) return
        const { id, generation } = adopt(saved)
        log.info({ snapshot: id, generation }, 'saved policy is in force')
      } catch (error) {
        log.warn(reasonOf(error), 'saved policy cannot be used')
      }
    },
    async take(signed) {
      try {
        const before = current
        const { id, generation } = adopt(signed)
        if (before?.id !== id) log.info({ snapshot: id, generation }, 'policy is in force')
        await save(options, signed)
        return reportOf(options, current, { state: 'current', code: '' })
      } catch (error) {
        const { code, reason } = reasonOf(error)
        log.warn({ code, reason, snapshot: current?.id }, 'policy refused; the last good one stays')
        const state = code === 'CS_SNAPSHOT_INCOMPATIBLE' ? 'incompatible' : 'invalid'
        return reportOf(options, current, { state, code })
      }
    },
  }
}

/** A restored backup of the sentry must not bring old policies back unseen. */
function assertNotOlder(policy: CompiledPolicy, current: CompiledPolicy | undefined): void {
  if (!current || policy.generation >= current.generation) return
  throw new SidecarError(
    'CS_SNAPSHOT_OUTDATED',
    `snapshot has generation ${policy.generation}, below ${current.generation} which is in force`,
  )
}

/** A disk that is full does not take the new policy out of force. */
async function save({ file, log }: PolicyInForceOptions, signed: SignedSnapshot): Promise<void> {
  try {
    await file.write(signed)
  } catch (error) {
    log.error(reasonOf(error), 'policy cannot be saved')
  }
}

function reportOf(
  { target, instance }: PolicyInForceOptions,
  current: CompiledPolicy | undefined,
  outcome: Pick<SnapshotReport, 'state' | 'code'>,
): SnapshotReport {
  return {
    target,
    instance,
    snapshotId: current?.id ?? '',
    generation: BigInt(current?.generation ?? 0),
    ...outcome,
  }
}

function reasonOf(error: unknown): { readonly code: string; readonly reason: string } {
  const reason = error instanceof Error ? error.message : 'unknown'
  const coded =
    error instanceof SidecarError || error instanceof PolicyError || error instanceof SpiffeError
  return { code: coded ? error.code : 'CS_SNAPSHOT_UNTRUSTED', reason }
}
