import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ensurePrivateFolder } from '../../platform/files.js'
import type { CliContext } from '../context.js'
import { relativeTime } from '../output.js'
import { printable } from '../printable.js'
import { type AccessLog, accessLog } from './access-log.js'
import { demoPolicyFor } from './policy.js'
import { applyDemoPolicy, type PolicyRollout } from './policy-rollout.js'
import type { Report } from './report.js'
import { type SentrySetup, sentrySetup } from './sentry-setup.js'
import { type DemoIdentity, readIdentity } from './sidecar-status.js'
import { type Supervised, type SuperviseOptions, supervise } from './supervise.js'

export interface DemoOptions {
  readonly trustDomain: string
  readonly folder: string
  readonly svidTtlSeconds: number
  readonly logLevel: string
  readonly ports: { readonly sentry: number; readonly shop: number }
  readonly context: CliContext
  readonly report: Report
  readonly signal: AbortSignal
}

export interface DemoPaths {
  readonly sentrySocket: string
  readonly agentSocket: string
  readonly agentAdminSocket: string
  readonly policy: string
  /** The socket of the Workload API that belongs to one app. */
  readonly socketOf: (app: App) => string
  readonly dataOf: (part: string) => string
}

/** The running demonstration. Disposing of it ends every process, the last started first. */
export interface Demo extends AsyncDisposable {
  readonly paths: DemoPaths
  readonly log: AccessLog
  /** Address of the app `shop`, through which the calls of the demonstration go. */
  shopAddress(): string
  identities(): Promise<readonly DemoIdentity[]>
}

export type App = 'orders' | 'shop'

const NAMESPACE = 'shop'
const LOOPBACK = '127.0.0.1'

type Role = Omit<SuperviseOptions, 'context' | 'report' | 'signal'>

/** What the steps share while the demonstration is put together. */
interface Assembly {
  readonly options: DemoOptions
  readonly paths: DemoPaths
  readonly log: AccessLog
  readonly run: (role: Role) => Promise<Supervised>
}

/** Starts sentry, agent, two apps and their sidecars, and says what happens as it happens. Throws `CS_DEV_FAILED`. */
export async function startDemo(options: DemoOptions): Promise<Demo> {
  const { context, report, signal } = options
  const processes: Supervised[] = []
  const stopAll = async () => {
    for (const one of processes.toReversed()) await one.stop()
  }
  const run = async (role: Role) => {
    const one = await supervise({ ...role, context, report, signal })
    processes.push(one)
    return one
  }
  try {
    const assembly = { options, paths: await makeFolders(options.folder), log: accessLog(), run }
    return { ...(await assemble(assembly)), [Symbol.asyncDispose]: stopAll }
  } catch (error) {
    await stopAll()
    throw error
  }
}

async function assemble(assembly: Assembly): Promise<Omit<Demo, keyof AsyncDisposable>> {
  const { options, paths, log } = assembly
  const { setup, address } = await startSentry(assembly)
  await startAgent(assembly, setup, address)
  await registerApps(assembly, setup)
  const rollout = await applyPolicy(assembly)
  const { sidecars, shop } = await startApps(assembly)
  await rollout.live()
  const identities = () =>
    Promise.all(
      Object.entries(sidecars).map(([name, one]) => readIdentity(name, one, options.signal)),
    )
  for (const identity of await identities()) sayIdentity(options, identity)
  return { paths, log, identities, shopAddress: () => shop.addresses().http ?? '' }
}

async function makeFolders(folder: string): Promise<DemoPaths> {
  await ensurePrivateFolder(folder)
  const dataOf = (part: string) => join(folder, part)
  const sockets = join(folder, 's')
  await mkdir(sockets, { recursive: true, mode: 0o700 })
  return {
    sentrySocket: join(sockets, 'sentry.sock'),
    agentSocket: join(sockets, 'agent.sock'),
    agentAdminSocket: join(sockets, 'admin.sock'),
    policy: join(folder, 'policy.yaml'),
    socketOf: (app) => join(sockets, `${app}.sock`),
    dataOf,
  }
}

interface SentryInHand {
  readonly setup: SentrySetup
  /** Where agents reach it. */
  readonly address: string
}

async function startSentry({ options, paths, run }: Assembly): Promise<SentryInHand> {
  const { trustDomain, ports, logLevel, context, report } = options
  const sentry = await run({
    name: 'sentry',
    args: (before) => [
      'sentry',
      'run',
      ...flags({
        'trust-domain': trustDomain,
        'data-dir': paths.dataOf('sentry'),
        listen: before.grpc ?? `${LOOPBACK}:${ports.sentry}`,
        socket: paths.sentrySocket,
        'admin-listen': before.admin ?? `${LOOPBACK}:0`,
        'log-level': logLevel,
      }),
    ],
    onLine: forward(context),
  })
  const setup = sentrySetup(paths.sentrySocket, context)
  const bundle = await setup.bundle()
  const root = bundle.x509Authorities[0]
  const expires = root ? relativeTime(root.notAfter, context.now()) : 'never'
  report.say({
    event: 'ca-made',
    part: 'sentry',
    text: `made a root and an issuer for ${trustDomain}; the root expires ${expires}`,
    details: { trustDomain, fingerprint: root?.fingerprint },
  })
  return { setup, address: sentry.addresses().grpc ?? '' }
}

async function startAgent(
  { options, paths, run }: Assembly,
  setup: SentrySetup,
  sentry: string,
): Promise<void> {
  const { trustDomain, logLevel, context, report } = options
  const bundle = paths.dataOf('bundle.json')
  const token = paths.dataOf('join-token')
  await writeFile(bundle, await setup.bundleDocument())
  await writeFile(token, await setup.joinToken(), { mode: 0o600 })
  await run({
    name: 'agent',
    args: (before) => [
      'agent',
      'run',
      ...flags({
        'trust-domain': trustDomain,
        'data-dir': paths.dataOf('agent'),
        sentry,
        'trust-bundle': bundle,
        'join-token-file': token,
        socket: paths.agentSocket,
        'admin-socket': paths.agentAdminSocket,
        'admin-listen': before.admin ?? `${LOOPBACK}:0`,
        'log-level': logLevel,
      }),
      ...flags({ sockets: `name=orders,path=${paths.socketOf('orders')}` }),
      ...flags({ sockets: `name=shop,path=${paths.socketOf('shop')}` }),
    ],
    onLine: forward(context),
  })
  const agentId = await setup.agentId()
  report.say({
    event: 'agent-attested',
    part: 'agent',
    text: `attested with a join token as ${agentId}`,
    details: { agentId },
  })
}

/** Both sidecars run under one user and from one program, so the socket they call on tells them apart. */
async function registerApps({ options }: Assembly, setup: SentrySetup): Promise<void> {
  const { report, svidTtlSeconds } = options
  const parentId = await setup.agentId()
  const uid = process.getuid?.() ?? 0
  for (const app of ['orders', 'shop'] as const) {
    const spiffeId = idOf(options, app)
    const selectors = [`unix:uid:${uid}`, `socket:${app}`]
    const entryId = await setup.entry({ spiffeId, parentId, selectors, ttlSeconds: svidTtlSeconds })
    report.say({
      event: 'entry-created',
      part: 'sentry',
      text: `whoever calls as ${selectors.join(' and ')} is ${spiffeId}`,
      details: { entryId, spiffeId, selectors },
    })
  }
}

async function applyPolicy({ options, paths }: Assembly): Promise<PolicyRollout> {
  await writeFile(paths.policy, demoPolicyFor(options.trustDomain))
  return applyDemoPolicy({
    file: paths.policy,
    socket: paths.sentrySocket,
    context: options.context,
    report: options.report,
  })
}

interface Apps {
  readonly sidecars: Readonly<Record<App, Supervised>>
  readonly shop: Supervised
}

async function startApps(assembly: Assembly): Promise<Apps> {
  const { options, run } = assembly
  const orders = await run(appRole('orders', 0, () => []))
  const ordersSidecar = await run(
    sidecarRole(assembly, 'orders', (before) => {
      const listen = before.inbound ?? `${LOOPBACK}:0`
      return ['--inbound', `listen=${listen},app=${orders.addresses().http}`]
    }),
  )
  const shopSidecar = await run(
    sidecarRole(assembly, 'shop', (before) => {
      const route = {
        host: 'orders',
        address: ordersSidecar.addresses().inbound,
        expect: [idOf(options, 'orders')],
      }
      return [
        '--outbound',
        JSON.stringify({ listen: before.outbound ?? `${LOOPBACK}:0`, routes: [route] }),
      ]
    }),
  )
  const shop = await run(
    appRole('shop', options.ports.shop, () => ['--orders', shopSidecar.addresses().outbound ?? '']),
  )
  return { sidecars: { orders: ordersSidecar, shop: shopSidecar }, shop }
}

function appRole(app: App, port: number, args: () => readonly string[]): Role {
  return {
    name: app,
    args: (before) => [
      'demo-app',
      app,
      '--listen',
      before.http ?? `${LOOPBACK}:${port}`,
      ...args(),
    ],
  }
}

type TunnelFlags = (before: Readonly<Record<string, string>>) => readonly string[]

function sidecarRole({ options, paths, log }: Assembly, app: App, tunnels: TunnelFlags): Role {
  const { logLevel, context } = options
  const forwarded = forward(context)
  return {
    name: `${app}-sidecar`,
    args: (before) => [
      'sidecar',
      'run',
      ...flags({
        'workload-api': `unix://${paths.socketOf(app)}`,
        'data-dir': paths.dataOf(`${app}-sidecar`),
        'admin-listen': before.admin ?? `${LOOPBACK}:0`,
        'log-level': logLevel,
      }),
      ...tunnels(before),
    ],
    onLine(line, isError) {
      if (isError) forwarded(line)
      else log.add(line)
    },
  }
}

const idOf = ({ trustDomain }: DemoOptions, app: App) =>
  `spiffe://${trustDomain}/ns/${NAMESPACE}/sa/${app}`

/** `{ 'log-level': 'info' }` as `--log-level info`. */
const flags = (named: Readonly<Record<string, string>>) =>
  Object.entries(named).flatMap(([name, value]) => [`--${name}`, value])

/** What a part logs goes on to standard error as it is. */
const forward = (context: CliContext) => (line: string) => {
  context.stderr.write(`${printable(line)}\n`)
}

function sayIdentity(
  { report, context }: DemoOptions,
  { name, id, serial, expiresAt }: DemoIdentity,
): void {
  report.say({
    event: 'svid-issued',
    part: name,
    text: `holds ${id}, expires ${relativeTime(expiresAt, context.now())}`,
    details: { spiffeId: id, serial, expiresAt: expiresAt.toISOString() },
  })
}
