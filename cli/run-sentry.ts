import { join } from 'node:path'
import type { Command } from 'commander'
import { serveAdmin } from '../platform/admin-http.js'
import { systemClock } from '../platform/clock.js'
import { ensurePrivateFolder } from '../platform/files.js'
import { lockFolder } from '../platform/folder-lock.js'
import { formatHostPort } from '../platform/listen.js'
import { jsonLog } from '../platform/log.js'
import { createMetrics } from '../platform/metrics.js'
import { systemRandom } from '../platform/random.js'
import { type SentryLifetimes, type SentryOptions, startSentry } from '../sentry/server.js'
import { parseTrustDomain, type TrustDomain } from '../spiffe/index.js'
import { bundleStore } from '../trust-bundles/store.js'
import { addConfigFlags, loadConfig } from './config/load.js'
import { required, requiredAddress } from './config/required.js'
import { SENTRY_PREFIX, type SentrySettings, sentrySettings } from './config/sentry-settings.js'
import type { CliContext } from './context.js'
import { policyCompiler } from './policy-compiler.js'
import { announceReady, stopRequested } from './process.js'
import { sealerFor } from './seal.js'

/** `countersign sentry run`. */
export function registerSentry(program: Command, context: CliContext): void {
  const noun = program.command('sentry').description('the certificate authority')
  const run = noun.command('run').description('run the sentry until it is told to stop')
  addConfigFlags(run, sentrySettings, SENTRY_PREFIX)
  run.action(async (flags: Record<string, unknown>) => {
    const loading = loadConfig({ schema: sentrySettings, prefix: SENTRY_PREFIX, flags, context })
    await runSentry((await loading) as SentrySettings, context)
  })
}

async function runSentry(settings: SentrySettings, context: CliContext): Promise<void> {
  const trustDomain = parseTrustDomain(required('trust_domain', settings.trust_domain))
  const stopped = stopRequested(context)
  const log = jsonLog({ level: settings.log_level, name: 'sentry' })
  const metrics = createMetrics()
  await ensurePrivateFolder(settings.data_dir)
  await using _lock = await lockFolder(settings.data_dir)
  await using sentry = await startSentry({
    ...optionsFrom(settings, trustDomain),
    log,
    metrics,
    clock: systemClock,
    random: systemRandom,
    bundles: bundleStore(),
    sealer: await sealerFor(settings.seal, settings.data_dir, context),
  })
  await using admin = await serveAdmin({
    listen: requiredAddress('admin_listen', settings.admin_listen),
    metrics,
    readiness: () => sentry.ready(),
    status: () => sentry.status(),
  })
  const addresses = {
    grpc: formatHostPort(sentry.address),
    socket: sentry.adminSocket,
    admin: formatHostPort(admin.address),
  }
  announceReady(context, addresses)
  log.info({ trustDomain, ...addresses }, 'sentry serves')
  log.info({ why: await stopped }, 'asked to stop')
}

type FromSettings = Omit<
  SentryOptions,
  'log' | 'metrics' | 'clock' | 'random' | 'bundles' | 'sealer'
>

function optionsFrom(settings: SentrySettings, trustDomain: TrustDomain): FromSettings {
  const { data_dir: dataFolder, jwt, policy, dns_names: names } = settings
  return {
    trustDomain,
    dataFolder,
    listen: requiredAddress('listen', settings.listen),
    adminSocket: { path: settings.socket ?? join(dataFolder, 'sentry.sock') },
    compiler: policyCompiler({
      trustDomain,
      layout: policy.layout,
      aliases: policy.trust_domain_groups,
    }),
    lifetimes: lifetimesFrom(settings),
    ...(jwt.rs256_audiences && { rs256Audiences: jwt.rs256_audiences }),
    ...(names.length > 0 && { names }),
    ...(jwt.issuer !== undefined && { jwtIssuer: jwt.issuer }),
    ...(!settings.rate_limits && { rateLimits: 'off' }),
  }
}

/** The configuration has milliseconds, certificates have whole seconds. */
function lifetimesFrom({ ttl }: SentrySettings): SentryLifetimes {
  const seconds = (ms: number) => Math.floor(ms / 1000)
  return {
    root: seconds(ttl.root),
    issuer: seconds(ttl.issuer),
    jwtKey: seconds(ttl.jwt_key),
    x509Svid: seconds(ttl.x509_svid),
    jwtSvid: seconds(ttl.jwt_svid),
    agentSvid: seconds(ttl.agent),
  }
}
