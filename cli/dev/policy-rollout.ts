import { readFile } from 'node:fs/promises'
import { credentials } from '@grpc/grpc-js'
import {
  PolicyAdminClient,
  type StatusResponse,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { ask, sentryClient } from '../sentry-client.js'
import type { Report } from './report.js'

export interface PolicyRollout {
  /** Resolves when a sidecar of each app enforces what the sentry has for it. Throws `CS_DEV_FAILED`. */
  live(): Promise<void>
}

export interface RolloutOptions {
  readonly file: string
  readonly socket: string
  readonly context: CliContext
  readonly report: Report
}

const LIVE_TIMEOUT_MS = 30_000

/** Applies the policy of the demonstration, as `countersign policy apply` does. */
export async function applyDemoPolicy({
  file,
  socket,
  context,
  report,
}: RolloutOptions): Promise<PolicyRollout> {
  const client = sentryClient(PolicyAdminClient, socket)
  const request = { text: await readFile(file, 'utf8'), source: file, dryRun: false }
  const answer = await ask(client, 'apply', { request, context })
  client.close()
  for (const { ref, change } of answer.outcomes) {
    const name = `${ref?.kind} ${ref?.namespace}/${ref?.name}`
    report.say({
      event: 'policy-applied',
      part: 'policy',
      text: `${change} ${name}`,
      details: { name, change },
    })
  }
  return { live: () => waitUntilLive({ file, socket, context, report }) }
}

async function waitUntilLive({ socket, context, report }: RolloutOptions): Promise<void> {
  const client = new PolicyAdminClient(`unix:${socket}`, credentials.createInsecure())
  const watching = client.watchStatus({})
  const timeout = AbortSignal.any([context.signal, AbortSignal.timeout(LIVE_TIMEOUT_MS)])
  const giveUp = () => watching.cancel()
  timeout.addEventListener('abort', giveUp, { once: true })
  try {
    for await (const status of watching as AsyncIterable<StatusResponse>) {
      const live = liveTargets(status)
      if (live === undefined) continue
      for (const { target, snapshotId } of live) {
        report.say({
          event: 'policy-live',
          part: 'policy',
          text: `live at ${target} (snapshot ${snapshotId.slice(0, 12)})`,
          details: { target, snapshotId },
        })
      }
      return
    }
    throw new Error('the sentry ended the watch')
  } catch (error) {
    throw new CliError('CS_DEV_FAILED', 'the policy did not become live in both sidecars', {
      cause: error,
    })
  } finally {
    timeout.removeEventListener('abort', giveUp)
    watching.cancel()
    client.close()
  }
}

/** The targets, once at least one proxy runs the present snapshot of each; undefined until then. */
function liveTargets({ targets, proxies }: StatusResponse): StatusResponse['targets'] | undefined {
  const live = targets.filter(({ target, snapshotId }) =>
    proxies.some(
      ({ report }) =>
        report?.target === target && report.snapshotId === snapshotId && report.state === 'current',
    ),
  )
  return targets.length > 0 && live.length === targets.length ? live : undefined
}
