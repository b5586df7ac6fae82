import type { Clock } from '../platform/clock.js'
import { SentryError } from './errors.js'
import type { IssuePipeline } from './issue.js'
import type { SentryMetrics, SvidType } from './metrics.js'

/** Counts and times what the pipeline issues and refuses. */
export function measuredPipeline(
  pipeline: IssuePipeline,
  { metrics, clock }: { readonly metrics: SentryMetrics; readonly clock: Clock },
): IssuePipeline {
  const measured = <Issued>(
    request: { readonly type: SvidType; readonly entryId?: string; readonly requester: string },
    issue: () => Issued,
  ): Issued => {
    const { type } = request
    const start = clock.hrtime()
    try {
      const issued = issue()
      metrics.issueTook(Number(clock.hrtime() - start) / 1e9)
      metrics.issued({ type, vouchedBy: voucherOf(request) })
      return issued
    } catch (error) {
      metrics.issueFailed({
        type,
        reason: error instanceof SentryError ? error.code : 'CS_INTERNAL',
      })
      throw error
    }
  }
  return {
    x509: (request) => measured({ ...request, type: 'x509' }, () => pipeline.x509(request)),
    jwt: (request) => measured({ ...request, type: 'jwt' }, () => pipeline.jwt(request)),
    signingIdentity: (request) => pipeline.signingIdentity(request),
  }
}

/** Which promise the SVID rests on. */
function voucherOf(request: { readonly entryId?: string; readonly requester: string }): string {
  if (request.entryId !== undefined) return 'registration'
  return request.requester === 'local' ? 'administrator' : 'node'
}
