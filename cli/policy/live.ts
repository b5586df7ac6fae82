import type {
  StatusResponse,
  StatusResponse_Proxy,
  StatusResponse_Target,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import { type CliContext, exitCode } from '../context.js'
import { CliError } from '../errors.js'
import { columns, durationWords, paint } from '../output.js'
import { type PolicyAdmin, watchStatus } from './admin.js'

/** One target and the proxies that enforce for it now. */
export interface TargetStatus {
  readonly target: StatusResponse_Target
  readonly current: readonly StatusResponse_Proxy[]
  /** Proxies that enforce something else, or whose agent is away. */
  readonly behind: readonly StatusResponse_Proxy[]
}

export function targetStatuses({ targets, proxies }: StatusResponse): readonly TargetStatus[] {
  return targets.map((target) => {
    const own = proxies.filter(({ report }) => report?.target === target.target)
    return {
      target,
      current: own.filter((proxy) => isCurrent(proxy, target)),
      behind: own.filter((proxy) => !isCurrent(proxy, target)),
    }
  })
}

function isCurrent({ report, connected }: StatusResponse_Proxy, target: StatusResponse_Target) {
  return connected && report?.state === 'current' && report.snapshotId === target.snapshotId
}

export interface WaitOptions {
  /** `undefined` for all targets. */
  readonly targets: ReadonlySet<string> | undefined
  readonly timeoutMs: number
}

/**
 * Waits until every proxy that an agent is connected for enforces what the sentry has for its target.
 * Throws `CS_CHECK_FAILED` with exit code 6 when the time is over.
 */
export async function waitUntilLive(
  admin: PolicyAdmin,
  { targets, timeoutMs }: WaitOptions,
): Promise<readonly TargetStatus[]> {
  let late: readonly StatusResponse_Proxy[] = []
  for await (const status of watchStatus(admin, AbortSignal.timeout(timeoutMs))) {
    const asked = targetStatuses(status).filter(({ target }) => targets?.has(target.target) ?? true)
    // A proxy whose agent is away gets the policy before anything else when it is back.
    late = asked.flatMap(({ behind }) => behind.filter(({ connected }) => connected))
    if (late.length === 0) return asked
    admin.context.stderr.write(
      `waiting for ${late.length} ${late.length === 1 ? 'proxy' : 'proxies'}\n`,
    )
  }
  const names = late.map(({ report }) => `${report?.target} (${report?.state})`).join(', ')
  const message = `not live everywhere after ${durationWords(timeoutMs)}: ${names || 'no answer'}`
  throw new CliError('CS_CHECK_FAILED', message, { exit: exitCode.unavailable })
}

export function statusJson(statuses: readonly TargetStatus[]): Readonly<Record<string, unknown>> {
  return {
    targets: statuses.map(({ target, current, behind }) => ({
      target: target.target,
      snapshot_id: target.snapshotId,
      generation: target.generation,
      live: behind.every(({ connected }) => !connected),
      proxies: [...current, ...behind].map(({ report, agent, reportedAt, connected }) => ({
        instance: report?.instance,
        agent,
        state: report?.state,
        snapshot_id: report?.snapshotId,
        generation: report?.generation,
        code: report?.code || undefined,
        connected,
        reported_at: new Date(Number(reportedAt) * 1000).toISOString(),
      })),
    })),
  }
}

export function statusTable(statuses: readonly TargetStatus[], context: CliContext): string {
  if (statuses.length === 0) return 'no targets; an entry makes its SPIFFE ID one'
  const rows = statuses.map(({ target, current, behind }) => [
    target.target,
    target.snapshotId.slice(0, 12),
    String(target.generation),
    proxiesText({ current, behind }),
  ])
  const late = statuses.flatMap(({ behind }) => behind.map((proxy) => lateLine(proxy, context)))
  return [columns(['TARGET', 'SNAPSHOT', 'GENERATION', 'PROXIES'], rows), ...late].join('\n')
}

function proxiesText({ current, behind }: Pick<TargetStatus, 'current' | 'behind'>): string {
  const all = current.length + behind.length
  return all === 0 ? 'none' : `${current.length}/${all} current`
}

function lateLine(
  { report, agent, reportedAt, connected }: StatusResponse_Proxy,
  context: CliContext,
): string {
  const { yellow, red } = paint(context.colour)
  const state = connected ? (report?.state ?? 'unknown') : 'away'
  const shown = state === 'stale' || state === 'away' ? yellow(state) : red(state)
  const age = durationWords(context.now().getTime() - Number(reportedAt) * 1000)
  const code = report?.code ? ` (${report.code})` : ''
  const snapshot = report?.snapshotId ? report.snapshotId.slice(0, 12) : 'nothing'
  return `${shown}${code}  ${report?.target} ${report?.instance} at ${agent}, on ${snapshot}, heard ${age} ago`
}
