import type { ServiceError } from '@grpc/grpc-js'
import { PolicyError, type PolicyErrorCode, policyReasons } from '../../policies/index.js'
import {
  PolicyAdminClient,
  type StatusResponse,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { errorOf, sentryClient } from '../sentry-client.js'

export interface SentryFlags {
  readonly sentrySocket?: string
}

/** The sentry's policies, over its admin socket. */
export interface PolicyAdmin {
  readonly client: PolicyAdminClient
  readonly context: CliContext
}

/** Opens a client for as long as `use` needs it. Throws `CS_POLICY_…` for what the sentry refuses. */
export async function withPolicyAdmin<T>(
  { flags, context }: { readonly flags: SentryFlags; readonly context: CliContext },
  use: (admin: PolicyAdmin) => Promise<T>,
): Promise<T> {
  const client = sentryClient(PolicyAdminClient, flags.sentrySocket)
  try {
    return await use({ client, context })
  } catch (error) {
    throw policyRefusal(error) ?? error
  } finally {
    client.close()
  }
}

/** The state of all targets and proxies, and every later one until the caller has seen enough. */
export async function* watchStatus(
  { client, context }: PolicyAdmin,
  signal: AbortSignal,
): AsyncGenerator<StatusResponse> {
  const watching = client.watchStatus({})
  const over = AbortSignal.any([signal, context.signal])
  const cancel = () => watching.cancel()
  over.addEventListener('abort', cancel, { once: true })
  try {
    if (over.aborted) return
    yield* watching as AsyncIterable<StatusResponse>
  } catch (error) {
    if (!over.aborted) throw errorOf(error as ServiceError)
  } finally {
    over.removeEventListener('abort', cancel)
    watching.cancel()
  }
}

/** The state as it is now. */
export async function statusNow(admin: PolicyAdmin): Promise<StatusResponse> {
  for await (const status of watchStatus(admin, AbortSignal.timeout(STATUS_TIMEOUT_MS))) {
    return status
  }
  throw new CliError('CS_SENTRY_UNREACHABLE', 'the sentry does not say what is live', { exit: 6 })
}

const STATUS_TIMEOUT_MS = 30_000

/** The sentry's refusal under the code that it gave. */
function policyRefusal(error: unknown): PolicyError | undefined {
  if (!(error instanceof CliError) || !isServiceError(error.cause)) return undefined
  const [code] = error.cause.metadata.get('countersign-code').map(String)
  if (code === undefined || !isPolicyCode(code)) return undefined
  return new PolicyError(code, error.message, { cause: error })
}

const isPolicyCode = (code: string): code is PolicyErrorCode => code in policyReasons

const isServiceError = (error: unknown): error is ServiceError =>
  error instanceof Error && 'metadata' in error
