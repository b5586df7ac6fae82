import type { ServiceError } from '@grpc/grpc-js'
import type { SnapshotReport } from '../../proto/gen/countersign/policy/v1/policy.js'
import type {
  FollowRequest,
  FollowResponse,
} from '../../proto/gen/countersign/sentry/v1/updates.js'
import type { Update } from '../identities/update.js'
import { noUpdate } from '../identities/update.js'
import { onAbort } from '../waits.js'
import type { Connection } from './connection.js'
import type { UpdateReader } from './read-update.js'

/** What the agent says it has applied. */
export interface Acknowledgement {
  readonly sequence: bigint
  readonly bundleSequence: bigint
  readonly reports: readonly SnapshotReport[]
}

export interface FollowOptions {
  readonly agentVersion: string
  readonly read: UpdateReader
  /** Takes a change whole; what it throws ends the stream. */
  readonly onUpdate: (update: Update) => void
  readonly acknowledgement: () => Acknowledgement
  /** Tells when an acknowledgement would say something new. Returns the way to stop. */
  readonly onReport: (listener: () => void) => () => void
}

/**
 * Follows what the sentry pushes until it ends the stream, which is not an error, or the stream
 * breaks, which throws what gRPC threw. Every change is acknowledged after it has been applied.
 */
export function follow(
  connection: Connection,
  options: FollowOptions,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const call = connection.updates.follow()
    let owed = false
    const send = (message: FollowRequest) => {
      if (call.writable) call.write(message)
    }
    const acknowledge = () => {
      // While the sentry is slow to read, nothing is stored up for it: it gets the latest, once it can.
      owed = call.writableNeedDrain
      if (owed) return
      const { sequence, bundleSequence, reports } = options.acknowledgement()
      const value = { sequence, bundleSequence, reports: [...reports] }
      send({ step: { $case: 'acknowledgement', value } })
    }
    const gather = gatherer(options.read)
    const stopReporting = options.onReport(acknowledge)
    const aborting = onAbort(signal, () => end(signal.reason as Error))
    const end = (error?: Error) => {
      stopReporting()
      aborting[Symbol.dispose]()
      call.cancel()
      if (error) reject(error)
      else resolve()
    }
    call.on('metadata', connection.observe)
    call.on('drain', () => {
      if (owed) acknowledge()
    })
    call.on('error', (error: ServiceError) => end(error))
    call.on('end', () => end())
    call.on('data', (message: FollowResponse) => {
      try {
        const update = gather(message)
        if (!update) return
        options.onUpdate(update)
        acknowledge()
      } catch (error) {
        end(error as Error)
      }
    })
    send({ step: { $case: 'start', value: { agentVersion: options.agentVersion } } })
  })
}

/** Puts the messages of one change together; gives it when it is complete. */
function gatherer(read: UpdateReader): (message: FollowResponse) => Update | undefined {
  let gathered: Update | undefined
  return (message) => {
    const part = read(message)
    gathered = gathered && !part.full ? join(gathered, part) : join(noUpdate, part)
    if (message.more) return undefined
    const update = gathered
    gathered = undefined
    return update
  }
}

function join(before: Update, after: Update): Update {
  return {
    sequence: after.sequence,
    full: before.full || after.full,
    entries: [...before.entries, ...after.entries],
    removedEntryIds: [...before.removedEntryIds, ...after.removedEntryIds],
    bundles: [...before.bundles, ...after.bundles],
    removedTrustDomains: [...before.removedTrustDomains, ...after.removedTrustDomains],
    snapshots: [...before.snapshots, ...after.snapshots],
    removedTargets: [...before.removedTargets, ...after.removedTargets],
  }
}
