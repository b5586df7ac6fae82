import { join } from 'node:path'
import type { Command } from 'commander'
import { startAgent } from '../agent/agent.js'
import { attestation } from '../agent/attestation/caller.js'
import { unixAttestor } from '../agent/attestation/unix.js'
import { openLocalEndpoints, type WorkloadSocket } from '../agent/local/endpoints.js'
import { type AdminServer, serveAdmin } from '../platform/admin-http.js'
import { systemClock } from '../platform/clock.js'
import { ensurePrivateFolder, readRequired } from '../platform/files.js'
import { lockFolder } from '../platform/folder-lock.js'
import { formatHostPort } from '../platform/listen.js'
import { jsonLog, type Log } from '../platform/log.js'
import { createMetrics, type Metrics } from '../platform/metrics.js'
import { systemRandom } from '../platform/random.js'
import { sealedFile } from '../platform/sealer.js'
import {
  certificatesFromPem,
  parseCertificate,
  parseTrustDomain,
  readBundleDocument,
  type TrustBundle,
  type TrustDomain,
} from '../spiffe/index.js'
import { registerAgentVerbs } from './agent.js'
import { AGENT_PREFIX, type AgentSettings, agentSettings } from './config/agent-settings.js'
import { addConfigFlags, loadConfig } from './config/load.js'
import { required, requiredAddress } from './config/required.js'
import type { CliContext } from './context.js'
import { CliError } from './errors.js'
import { announceReady, stopRequested } from './process.js'
import { version } from './program.js'
import { sealerFor } from './seal.js'

const MAX_BUNDLE_BYTES = 16 * 2 ** 20
const MAX_TOKEN_BYTES = 4096

/** `countersign agent run`, and the verbs on the agents that the sentry knows. */
export function registerAgent(program: Command, context: CliContext): void {
  const noun = program
    .command('agent')
    .description('the agent of this machine, and the agents that the sentry knows')
  const run = noun
    .command('run')
    .description('run the agent of this machine until it is told to stop')
  addConfigFlags(run, agentSettings, AGENT_PREFIX)
  run.action(async (flags: Record<string, unknown>) => {
    const settings = (await loadConfig({
      schema: agentSettings,
      prefix: AGENT_PREFIX,
      flags,
      context,
    })) as AgentSettings
    await runAgent(settings, context)
  })
  registerAgentVerbs(noun, context)
}

async function runAgent(settings: AgentSettings, context: CliContext): Promise<void> {
  const trustDomain = parseTrustDomain(required('trust_domain', settings.trust_domain))
  const log = jsonLog({ level: settings.log_level, name: 'agent' })
  const metrics = createMetrics()
  await ensurePrivateFolder(settings.data_dir)
  await using _lock = await lockFolder(settings.data_dir)
  const sealer = await sealerFor(settings.seal, settings.data_dir, context)
  const joinToken = await readJoinToken(settings)
  const trustBundle = await readTrustBundle(settings, trustDomain)
  await using agent = await startAgent({
    trustDomain,
    log,
    metrics,
    clock: systemClock,
    random: systemRandom,
    version: version(),
    sentries: settings.sentry,
    stateFile: sealedFile({
      path: join(settings.data_dir, 'agent.sealed'),
      sealer,
      context: 'agent state',
    }),
    ...(joinToken !== undefined && { joinToken }),
    ...(trustBundle !== undefined && { trustBundle }),
    serve: (identities) => openLocalEndpoints({ ...endpointsOf(settings, log), identities }),
  })
  await using admin = await serveAgentAdmin(settings, agent, metrics)
  const stopped = stopRequested(context)
  const stop = new AbortController()
  void stopped.then(() => stop.abort())
  if (!(await becomesReady(agent.whenReady(stop.signal), stop.signal))) return
  const addresses = {
    id: agent.identities.status().agentId ?? '',
    socket: settings.socket,
    admin_socket: adminSocket(settings),
    admin: formatHostPort(admin.address),
  }
  announceReady(context, addresses)
  log.info(addresses, 'agent serves')
  log.info({ why: await stopped }, 'asked to stop')
}

/** False when the agent was told to stop before it was ready. */
async function becomesReady(ready: Promise<void>, stop: AbortSignal): Promise<boolean> {
  try {
    await ready
    return true
  } catch (error) {
    if (stop.aborted) return false
    throw error
  }
}

function serveAgentAdmin(
  settings: AgentSettings,
  agent: Awaited<ReturnType<typeof startAgent>>,
  metrics: Metrics,
): Promise<AdminServer> {
  return serveAdmin({
    listen: requiredAddress('admin_listen', settings.admin_listen),
    metrics,
    readiness: () => agent.readiness(),
    status: () => agent.identities.status(),
  })
}

function endpointsOf(settings: AgentSettings, log: Log) {
  const main: WorkloadSocket = { path: settings.socket }
  const further = settings.sockets.map(furtherSocket)
  const binary = settings.discover_workload_path
  return {
    sockets: [main, ...further] as const,
    privateSocket: adminSocket(settings),
    attestation: attestation({
      attestors: [unixAttestor({ clock: systemClock, path: binary, sha256: binary })],
      log,
    }),
    clock: systemClock,
    random: systemRandom,
    log,
  }
}

function furtherSocket(settings: AgentSettings['sockets'][number]): WorkloadSocket {
  const { mode } = settings
  if (!/^0?[0-7]{3}$/.test(mode))
    throw new CliError(
      'CS_CONFIG_INVALID',
      `sockets.mode takes octal permissions such as 0600, not ${mode}`,
    )
  return {
    path: required('sockets.path', settings.path),
    mode: Number.parseInt(mode, 8),
    selectors: [{ type: 'socket', value: required('sockets.name', settings.name) }],
  }
}

const adminSocket = (settings: AgentSettings) =>
  settings.admin_socket ?? join(settings.data_dir, 'admin.sock')

async function readJoinToken(settings: AgentSettings): Promise<string | undefined> {
  if (settings.join_token !== undefined) return settings.join_token
  if (settings.join_token_file === undefined) return undefined
  return (await readRequired(settings.join_token_file, MAX_TOKEN_BYTES)).toString('utf8').trim()
}

/** Reads PEM or a SPIFFE bundle document. Throws `CS_FILE_UNREADABLE`, `CS_BUNDLE_INVALID`, `CS_CERTIFICATE_MALFORMED`. */
async function readTrustBundle(
  settings: AgentSettings,
  trustDomain: TrustDomain,
): Promise<TrustBundle | undefined> {
  if (settings.trust_bundle === undefined) return undefined
  const bytes = await readRequired(settings.trust_bundle, MAX_BUNDLE_BYTES)
  if (!bytes.includes('-----BEGIN')) return readBundleDocument(bytes, trustDomain)
  const x509Authorities = certificatesFromPem(bytes.toString('latin1')).map(parseCertificate)
  return { trustDomain, x509Authorities, jwtAuthorities: new Map() }
}
