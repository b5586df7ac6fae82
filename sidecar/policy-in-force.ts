import type { Clock } from '../platform/clock.js'
import { PlatformError } from '../platform/errors.js'
import type { Log } from '../platform/log.js'
import { type CompiledPolicy, PolicyError } from '../policies/index.js'
import type { SignedSnapshot, SnapshotReport } from '../proto/gen/countersign/policy/v1/policy.js'
import type { SpiffeId } from '../spiffe/index.js'
import { SidecarError } from './errors.js'
import type { IdentitySource } from './identity.js'
import type { PolicySource } from './inbound-gate.js'
import { type CheckOptions, checkedPolicy, outlivedGeneration } from './snapshot-check.js'
import type { SnapshotFile } from './snapshot-file.js'

/** The policy of one target: the last good snapshot, whatever came after it. */
export interface PolicyInForce extends PolicySource, AsyncDisposable {
  /**
   * Takes over what was saved, if it still holds. A signer that has expired meanwhile vouches for
   * nothing any more: without another policy nothing is allowed until the agent brings one.
   */
  restore(): Promise<void>
  /**
   * Changes over to a snapshot that is good, at once, and keeps what is in force otherwise. Undefined
   * says that the agent holds none.
   */
  take(signed: SignedSnapshot | undefined): void
  /** What came of the last snapshot; undefined until the agent has said anything. */
  standing(): Standing | undefined
  /** What to tell the agent; undefined when `standing` is. */
  report(): SnapshotReport | undefined
  /** Calls when there is something to tell, after what is told of was saved. Returns how to stop listening. */
  onReport(listener: () => void): () => void
}

/** How what is in force compares with what the agent holds. */
export interface Standing {
  readonly state: 'current' | 'stale' | 'incompatible' | 'invalid'
  /** Empty when the state is `current`. */
  readonly code: string
  readonly reason: string
}

export interface PolicyInForceOptions {
  readonly target: SpiffeId
  readonly instance: string
  readonly identity: IdentitySource
  readonly file: SnapshotFile
  readonly clock: Clock
  readonly log: Log
}

const CURRENT: Standing = { state: 'current', code: '', reason: '' }

export function policyInForce(options: PolicyInForceOptions): PolicyInForce {
  const { target, instance, identity, file, clock, log } = options
  const onChange = new Set<() => void>()
  const reports = reportQueue(options)
  let current: CompiledPolicy | undefined
  let standing: Standing | undefined
  let lowest = 0
  /** Refused for want of trust, which may come: the agent does not send it twice. */
  let distrusted: SignedSnapshot | undefined

  const checkOptions = (): CheckOptions => ({
    target,
    bundles: identity,
    now: clock.now(),
    known: current,
  })
  /** Why not, or undefined when it is in force. */
  const adopt = (signed: SignedSnapshot): Refusal | undefined => {
    const before = current
    try {
      const policy = checkedPolicy(signed, checkOptions())
      assertNotOlder(policy, lowest)
      current = policy
      lowest = policy.generation
      distrusted = undefined
    } catch (error) {
      const refusal = refusalOf(error)
      distrusted = refusal.code === 'CS_SNAPSHOT_UNTRUSTED' ? signed : undefined
      return refusal
    }
    if (current !== before) {
      const { id, generation } = current
      log.info({ snapshot: id, generation }, 'policy is in force')
    }
    return undefined
  }
  const change = (act: () => void) => {
    const before = current
    act()
    if (current !== before) for (const listener of onChange) listener()
  }
  const judge = (signed: SignedSnapshot) =>
    change(() => {
      const refusal = adopt(signed)
      standing = refusal ? { state: stateFor(refusal), ...refusal } : CURRENT
      if (refusal) {
        log.warn({ ...refusal, snapshot: current?.id }, 'policy refused; the last good one stays')
      }
      reports.tell(refusal ? undefined : signed)
    })
  const stop = identity.onChange(() => {
    if (distrusted) judge(distrusted)
  })

  return {
    current: () => current,
    onChange(listener) {
      onChange.add(listener)
      return () => onChange.delete(listener)
    },
    async restore() {
      const saved = await readSaved(file, log)
      if (!saved) return
      change(() => {
        const refusal = adopt(saved)
        if (!refusal) return
        lowest = outlivedGeneration(saved, checkOptions()) ?? lowest
        log.warn({ ...refusal }, 'saved policy is not used')
      })
    },
    take(signed) {
      if (signed) return judge(signed)
      distrusted = undefined
      standing = nothingHeld(target)
      log.warn({ code: standing.code, snapshot: current?.id }, 'the agent holds no policy')
      reports.tell(undefined)
    },
    standing: () => standing,
    report: () =>
      standing && {
        target,
        instance,
        state: standing.state,
        code: standing.code,
        snapshotId: current?.id ?? '',
        generation: BigInt(current?.generation ?? 0),
      },
    onReport: reports.onReport,
    async [Symbol.asyncDispose]() {
      stop()
      await reports.settled()
    },
  }
}

/**
 * A restored backup of the sentry must not bring old policies back unseen. The same generation with
 * other content is what its next change brings, and is taken.
 */
function assertNotOlder({ generation }: CompiledPolicy, lowest: number): void {
  if (generation >= lowest) return
  throw new SidecarError(
    'CS_SNAPSHOT_OUTDATED',
    `snapshot has generation ${generation}, below ${lowest} which was in force already`,
  )
}

/** Saves, then tells. A slow disk delays neither a later policy nor more than the news of it. */
function reportQueue({ file, log }: PolicyInForceOptions) {
  const listeners = new Set<() => void>()
  let unsaved: SignedSnapshot | undefined
  let untold = false
  let working = Promise.resolve()

  const work = async () => {
    while (untold) {
      untold = false
      const signed = unsaved
      unsaved = undefined
      if (signed) await save(signed, { file, log })
      // What has come meanwhile is saved and told with it.
      if (!untold) for (const listener of listeners) listener()
    }
  }
  return {
    tell(good: SignedSnapshot | undefined) {
      unsaved = good ?? unsaved
      untold = true
      working = working.then(work)
    },
    onReport(listener: () => void) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    settled: () => working,
  }
}

type Keeping = Pick<PolicyInForceOptions, 'file' | 'log'>

/** A disk that is full does not take the new policy out of force. */
async function save(signed: SignedSnapshot, { file, log }: Keeping): Promise<void> {
  try {
    await file.write(signed)
  } catch (error) {
    log.error({ ...refusalOf(error) }, 'policy cannot be saved')
  }
}

/** A file that cannot be used is left as it is until something good replaces it. */
async function readSaved(file: SnapshotFile, log: Log): Promise<SignedSnapshot | undefined> {
  try {
    return await file.read()
  } catch (error) {
    log.warn({ ...refusalOf(error) }, 'saved policy is not used')
    return undefined
  }
}

type Refusal = Pick<Standing, 'code' | 'reason'>

function refusalOf(error: unknown): Refusal {
  const reason = error instanceof Error ? error.message : 'unknown'
  const coded =
    error instanceof SidecarError || error instanceof PolicyError || error instanceof PlatformError
  return { code: coded ? error.code : 'CS_SNAPSHOT_INVALID', reason }
}

function stateFor({ code }: Refusal): Standing['state'] {
  return code === 'CS_SNAPSHOT_INCOMPATIBLE' ? 'incompatible' : 'invalid'
}

const nothingHeld = (target: SpiffeId): Standing => ({
  state: 'stale',
  code: 'CS_POLICY_UNAVAILABLE',
  reason: `the agent holds no policy for ${target}`,
})
