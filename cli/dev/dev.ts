import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { systemClock } from '../../platform/clock.js'
import { parseTrustDomain } from '../../spiffe/index.js'
import { parseDuration } from '../config/schema.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { paint, relativeTime } from '../output.js'
import { announceReady, stopRequested } from '../process.js'
import type { AccessEntry } from './access-log.js'
import { type CallAnswer, call } from './calls.js'
import { type Demo, type DemoOptions, startDemo } from './demo.js'
import { report as makeReport, type Report } from './report.js'

interface DevFlags {
  readonly once?: boolean
  readonly json?: boolean
  readonly dataDir?: string
  readonly trustDomain: string
  readonly svidTtl: number
  readonly sentryPort: number
  readonly shopPort: number
  readonly logLevel: string
}

/** Longest path of a Unix socket on Linux, less what stands behind the data folder. */
const MAX_FOLDER_LENGTH = 85
const ROTATION_POLL_MS = 2000
const LOG_LINE_TIMEOUT_MS = 5000

/** `countersign dev`: the whole product on one machine, without root, network or anything installed. */
export function registerDev(program: Command, context: CliContext): void {
  program
    .command('dev')
    .description(
      'show the whole on this machine: a sentry, an agent and two apps that call each other through sidecars',
    )
    .option('--once', 'end after the two calls, with exit code 0 when both came out as they should')
    .option('--json', 'print events as JSON lines')
    .option(
      '--data-dir <folder>',
      'keep the data there (default: a temporary folder that is removed at the end)',
    )
    .option('--trust-domain <name>', 'name of the trust domain', 'example.test')
    .addOption(
      new Option(
        '--svid-ttl <duration>',
        'lifetime of the SVIDs; they are renewed at about half of it',
      )
        .argParser(seconds)
        .default(120, '2m'),
    )
    .addOption(portOption('--sentry-port <port>', 'port of the sentry'))
    .addOption(portOption('--shop-port <port>', 'port of the app shop'))
    .addOption(
      new Option('--log-level <level>', 'what the parts log, on standard error')
        .choices(['debug', 'info', 'warn', 'error', 'silent'])
        .default('error'),
    )
    .action((flags: DevFlags) => dev(flags, context))
}

const portOption = (flags: string, description: string) =>
  new Option(flags, description).argParser(portNumber).default(0, 'any')

function seconds(text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined || ms < 5000)
    throw new InvalidArgumentError('takes a duration of 5s or more')
  return Math.floor(ms / 1000)
}

function portNumber(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65_535)
    throw new InvalidArgumentError('takes a port number')
  return port
}

async function dev(flags: DevFlags, context: CliContext): Promise<void> {
  const stopping = new AbortController()
  const stopped = stopRequested(context).then((why) => stopping.abort(why))
  const report = makeReport(context, flags.json ?? false)
  const folder = await dataFolder(flags.dataDir)
  try {
    await using demo = await startDemo(
      demoOptions({ flags, folder: folder.path, context, report, signal: stopping.signal }),
    )
    await makeCalls(demo, report, stopping.signal)
    if (flags.once) return
    announceReady(context, { shop: demo.shopAddress(), ...socketsOf(demo) })
    report.note(whatToTry(demo, context))
    void sayRotations({ demo, report, context, signal: stopping.signal })
    await stopped
    report.say({ event: 'stopping', part: 'dev', text: 'stopping everything' })
  } catch (error) {
    if (!stopping.signal.aborted) throw error
  } finally {
    stopping.abort('end')
    if (folder.temporary) await rm(folder.path, { recursive: true, force: true })
  }
}

const socketsOf = ({ paths }: Demo) => ({
  sentry_socket: paths.sentrySocket,
  agent_socket: paths.agentSocket,
  agent_admin_socket: paths.agentAdminSocket,
  orders_socket: paths.socketOf('orders'),
  shop_socket: paths.socketOf('shop'),
  policy: paths.policy,
})

interface Given {
  readonly flags: DevFlags
  readonly folder: string
  readonly context: CliContext
  readonly report: Report
  readonly signal: AbortSignal
}

function demoOptions({ flags, ...rest }: Given): DemoOptions {
  return {
    ...rest,
    trustDomain: parseTrustDomain(flags.trustDomain),
    svidTtlSeconds: flags.svidTtl,
    logLevel: flags.logLevel,
    ports: { sentry: flags.sentryPort, shop: flags.shopPort },
  }
}

async function dataFolder(
  given: string | undefined,
): Promise<{ path: string; temporary: boolean }> {
  const path = given === undefined ? await mkdtemp(join(tmpdir(), 'countersign-')) : resolve(given)
  if (path.length > MAX_FOLDER_LENGTH) {
    throw new CliError(
      'CS_USAGE',
      `${path} is too long for the sockets inside it: give a --data-dir of at most ${MAX_FOLDER_LENGTH} characters`,
    )
  }
  return { path, temporary: given === undefined }
}

/** One call that the policy allows and one that it does not. Throws `CS_DEV_FAILED` if either comes out otherwise. */
async function makeCalls(demo: Demo, report: Report, signal: AbortSignal): Promise<void> {
  const allowed = await makeCall(demo, { method: 'GET', report, signal })
  if (allowed.status !== 200)
    throw new CliError('CS_DEV_FAILED', `the allowed call was answered with ${allowed.status}`)
  const denied = await makeCall(demo, { method: 'DELETE', report, signal })
  if (denied.status !== 403)
    throw new CliError('CS_DEV_FAILED', `the forbidden call was answered with ${denied.status}`)
}

async function makeCall(
  demo: Demo,
  { method, report, signal }: { method: string; report: Report; signal: AbortSignal },
): Promise<CallAnswer> {
  const path = '/orders/42'
  const answer = await call({ address: demo.shopAddress(), method, path, signal })
  report.say({
    event: 'call',
    part: 'shop',
    text: `${method} ${path} at orders: ${answer.status} ${answer.body}`,
    details: {
      method,
      path,
      status: answer.status,
      body: answer.body,
      decisionId: answer.decisionId,
    },
  })
  const timeout = AbortSignal.any([signal, AbortSignal.timeout(LOG_LINE_TIMEOUT_MS)])
  const matches = (entry: AccessEntry) =>
    answer.decisionId === undefined
      ? entry.decision === 'allow' && entry.method === method && entry.path === path
      : entry.decision_id === answer.decisionId
  const entry = await demo.log.find(matches, timeout)
  report.say({
    event: 'decision',
    part: 'orders',
    text: entry ? decisionText(entry) : 'the sidecar logged no decision',
    details: { ...entry },
  })
  return answer
}

function decisionText({ decision, policy, rule, reason, caller }: AccessEntry): string {
  const named = `the rule ${policy}/${rule}`
  return decision === 'allow'
    ? `allowed ${caller} by ${named}`
    : `denied ${caller}: ${rule === undefined ? 'no rule allows it' : named} (${reason})`
}

function whatToTry(demo: Demo, context: CliContext): string[] {
  const { dim, bold } = paint(context.colour)
  const { paths } = demo
  const countersign = 'node dist/cli/main.js'
  return [
    '',
    bold('Everything is up. SVIDs are renewed about once a minute. Ctrl-C ends it all.'),
    dim(
      'Both apps run under your user here, so the socket that a sidecar calls on tells them apart.',
    ),
    dim('In production a workload is told apart by its uid, container or unit.'),
    '',
    'Try in another terminal:',
    `  curl http://${demo.shopAddress()}/orders/42`,
    `  curl -X DELETE http://${demo.shopAddress()}/orders/42`,
    `  ${countersign} api fetch x509 --socket unix://${paths.socketOf('shop')}`,
    `  ${countersign} explain identity --agent-socket ${paths.agentAdminSocket} --pid $$`,
    `  ${countersign} entry list --sentry-socket ${paths.sentrySocket}`,
    `  ${countersign} policy explain --sentry-socket ${paths.sentrySocket} --from shop/shop --to shop/orders --method DELETE --path /orders/42`,
    `  ${countersign} doctor --sentry-socket ${paths.sentrySocket} --agent-socket ${paths.agentSocket}`,
    `The policy and its test are in ${paths.policy}; change both and:`,
    `  ${countersign} policy apply --sentry-socket ${paths.sentrySocket} --wait -f ${paths.policy}`,
    '',
  ]
}

interface Rotations {
  readonly demo: Demo
  readonly report: Report
  readonly context: CliContext
  readonly signal: AbortSignal
}

async function sayRotations({ demo, report, context, signal }: Rotations): Promise<void> {
  const serials = new Map(
    (await demo.identities().catch(() => [])).map(({ name, serial }) => [name, serial]),
  )
  while (!signal.aborted) {
    await systemClock.sleep(ROTATION_POLL_MS, signal).catch(() => undefined)
    for (const { name, id, serial, expiresAt } of await demo.identities().catch(() => [])) {
      if (serials.get(name) === serial) continue
      serials.set(name, serial)
      const text = `renewed ${id}, expires ${relativeTime(expiresAt, context.now())}`
      report.say({ event: 'svid-renewed', part: name, text, details: { spiffeId: id, serial } })
    }
  }
}
