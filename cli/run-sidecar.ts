import type { Command } from 'commander'
import { serveAdmin } from '../platform/admin-http.js'
import { systemClock } from '../platform/clock.js'
import { formatHostPort } from '../platform/listen.js'
import { jsonLog } from '../platform/log.js'
import { createMetrics } from '../platform/metrics.js'
import { systemRandom } from '../platform/random.js'
import { type RunningSidecar, startSidecar } from '../sidecar/sidecar.js'
import type { SidecarStatus } from '../sidecar/sidecar-status.js'
import { addConfigFlags, loadConfig } from './config/load.js'
import { required, requiredAddress } from './config/required.js'
import { SIDECAR_PREFIX, type SidecarSettings, sidecarSettings } from './config/sidecar-settings.js'
import type { CliContext } from './context.js'
import { exitCode } from './context.js'
import { CliError } from './errors.js'
import { announceReady, stopRequested } from './process.js'
import { inboundTunnel, outboundTunnel } from './sidecar-tunnels.js'

/** What `/status` tells while the first SVID and policy are waited for. */
const NOT_STARTED: SidecarStatus = {
  identity: null,
  policy: null,
  policy_standing: null,
  policy_connected: false,
  tunnels: [],
  peers: {},
}

/** `countersign sidecar run`. */
export function registerSidecar(program: Command, context: CliContext): void {
  const noun = program.command('sidecar').description('the proxy beside an app')
  const run = noun
    .command('run')
    .description('run the sidecar until it is told to stop, then let open requests end')
  addConfigFlags(run, sidecarSettings, SIDECAR_PREFIX)
  run.action(async (flags: Record<string, unknown>) => {
    const loading = loadConfig({ schema: sidecarSettings, prefix: SIDECAR_PREFIX, flags, context })
    await runSidecar((await loading) as SidecarSettings, context)
  })
}

async function runSidecar(settings: SidecarSettings, context: CliContext): Promise<void> {
  const stopping = new AbortController()
  const stopped = stopRequested(context).then((why) => {
    stopping.abort(why)
    return why
  })
  const log = jsonLog({ level: settings.log_level, name: 'sidecar' })
  const metrics = createMetrics()
  let sidecar: RunningSidecar | undefined
  await using admin = await serveAdmin({
    listen: requiredAddress('admin_listen', settings.admin_listen),
    metrics,
    readiness: () =>
      sidecar?.readiness() ?? {
        ready: false,
        reasons: ['starting: waits for the first SVID and policy'],
      },
    status: () => sidecar?.status() ?? NOT_STARTED,
  })
  try {
    sidecar = await startSidecar({
      ...tunnelsFrom(settings, context),
      log,
      metrics,
      clock: systemClock,
      random: systemRandom,
      signal: stopping.signal,
      accessLog: { destination: context.stdout, mode: settings.access_log },
    })
  } catch (error) {
    if (stopping.signal.aborted) return
    throw error
  }
  const addresses = addressesOf(sidecar, formatHostPort(admin.address))
  announceReady(context, addresses)
  log.info(addresses, 'sidecar serves')
  log.info({ why: await stopped }, 'asked to stop')
  if (await sidecar.close(settings.drain)) return
  throw new CliError(
    'CS_DRAIN_INCOMPLETE',
    'requests were still open when the time to end was over',
    { exit: exitCode.error },
  )
}

function tunnelsFrom(settings: SidecarSettings, context: CliContext) {
  const workloadApi = settings.workload_api ?? context.environment.SPIFFE_ENDPOINT_SOCKET
  return {
    workloadApi: required('workload_api', workloadApi),
    inbound: settings.inbound.map(inboundTunnel),
    outbound: settings.outbound.map(outboundTunnel),
    readyTimeoutMs: settings.ready_timeout,
    ...(settings.data_dir !== undefined && { stateFolder: settings.data_dir }),
  }
}

/** The first listener of each direction under its plain name, every one under the tunnel's. */
function addressesOf({ proxy }: RunningSidecar, admin: string): Readonly<Record<string, string>> {
  const addresses: Record<string, string> = { admin }
  for (const { name, direction, address } of proxy.tunnels) {
    addresses[direction] ??= formatHostPort(address)
    addresses[name] = formatHostPort(address)
  }
  return addresses
}
