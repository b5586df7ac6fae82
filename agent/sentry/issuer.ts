import { status } from '@grpc/grpc-js'
import type {
  BatchNewX509SVIDResponse,
  NewJWTSVIDResponse,
} from '../../proto/gen/spire/api/server/svid/v1/svid.js'
import type { JWTSVID, X509SVID } from '../../proto/gen/spire/api/types/types.js'
import { AgentError } from '../errors.js'
import type { Connection } from './connection.js'
import type { Line } from './line.js'
import { endsOwnSvid, statusOf } from './refusal.js'
import { unusable } from './wire.js'

export interface X509Request {
  readonly entryId: string
  /** DER PKCS#10. */
  readonly csr: Uint8Array
}

export type X509Answer =
  | { readonly kind: 'issued'; readonly svid: X509SVID }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Where SVIDs for workloads come from. Throws `CS_ISSUANCE_REFUSED` when asking again cannot help,
 * else `CS_SENTRY_UNAVAILABLE` or what a refusal of the agent itself means.
 */
export interface Issuer {
  /** One answer for each request, in the same order. */
  x509Svids(requests: readonly X509Request[], signal: AbortSignal): Promise<readonly X509Answer[]>
  jwtSvid(
    request: { readonly entryId: string; readonly audience: readonly string[] },
    signal: AbortSignal,
  ): Promise<JWTSVID>
}

export function issuerOn(
  line: Line,
  options: { readonly onRefused: (error: AgentError) => void },
): Issuer {
  return {
    x509Svids: (requests, signal) =>
      onLine(signal, async (connection) => {
        const params = requests.map(({ entryId, csr }) => ({ entryId, csr }))
        const { results } = await connection.call<BatchNewX509SVIDResponse>(
          (done) => connection.svids.batchNewX509Svid({ params }, done),
          signal,
        )
        if (results.length !== requests.length) throw unusable('sentry left requests unanswered')
        return results.map(answerOf)
      }),
    jwtSvid: ({ entryId, audience }, signal) =>
      onLine(signal, async (connection) => {
        const { svid } = await connection.call<NewJWTSVIDResponse>(
          (done) => connection.svids.newJwtsvid({ entryId, audience: [...audience] }, done),
          signal,
        )
        if (!svid) throw unusable('sentry answered without a token')
        return svid
      }),
  }

  /** A call that its connection was taken away under, by a renewal, is made again on the next one. */
  async function onLine<Result>(
    signal: AbortSignal,
    work: (connection: Connection) => Promise<Result>,
  ): Promise<Result> {
    const connection = await line.whenOpen(signal)
    try {
      return await work(connection)
    } catch (error) {
      signal.throwIfAborted()
      const next = line.current()
      if (next && next !== connection) return await work(next)
      if (endsOwnSvid(error)) options.onRefused(error)
      throw isFinal(error) ? refused(error as Error) : error
    }
  }
}

/** The sentry has judged the request itself. */
const final: ReadonlySet<status | undefined> = new Set([
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION,
  status.UNIMPLEMENTED,
])

function isFinal(error: unknown): boolean {
  return !endsOwnSvid(error) && final.has(statusOf(error))
}

function refused(error: Error): AgentError {
  return new AgentError('CS_ISSUANCE_REFUSED', error.message, { cause: error })
}

function answerOf(result: BatchNewX509SVIDResponse['results'][number]): X509Answer {
  const { status: outcome, svid } = result
  if (outcome?.code === status.OK && svid) return { kind: 'issued', svid }
  return { kind: 'refused', reason: outcome?.message ?? 'sentry answered without a status' }
}
