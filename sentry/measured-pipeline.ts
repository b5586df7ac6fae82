import type { Clock } from '../platform/clock.js'
import { SentryError } from './errors.js'
import type { IssuePipeline } from './issue.js'
import type { SentryMetrics, SvidType } from './metrics.js'

/** Counts and times what the pipeline issues and refuses. */
export function measuredPipeline(
  pipeline: IssuePipeline,
  { metrics, clock }: { readonly metrics: SentryMetrics; readonly clock: Clock },
): IssuePipeline {
  const measured = <Issued, Asked extends VouchedFor>(
    type: SvidType,
    request: Asked,
    issue: (request: Asked) => Issued,
  ): Issued => {
    const start = clock.hrtime()
    try {
      const issued = issue(request)
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
    x509: (request) => measured('x509', request, pipeline.x509),
    jwt: (request) => measured('jwt', request, pipeline.jwt),
    signingIdentity: (request) => pipeline.signingIdentity(request),
  }
}

interface VouchedFor {
  readonly entryId?: string
  readonly requester: string
}

/** Which promise the SVID rests on. */
function voucherOf(request: VouchedFor): string {
  if (request.entryId !== undefined) return 'registration'
  return request.requester === 'local' ? 'administrator' : 'node'
}
