/** One process full of agents, for the benchmark of how fast an entry becomes an SVID. */
import { startAgent } from '../agent/agent.js'
import { openLocalEndpoints } from '../agent/local/endpoints.js'
import { systemClock } from '../platform/clock.js'
import { silentLog } from '../platform/log.js'
import { createMetrics } from '../platform/metrics.js'
import { systemRandom } from '../platform/random.js'
import type { SealedFile } from '../platform/sealer.js'
import { parseTrustDomain, readBundleDocument } from '../spiffe/index.js'
import { monotonicMs } from './product.js'

export interface LoadOrder {
  readonly trustDomain: string
  readonly bundle: string
  readonly sentry: string
  readonly agents: readonly AgentOrder[]
}

export interface AgentOrder {
  readonly joinToken: string
  /** Where its workloads find it; an agent without one serves nobody. */
  readonly socket?: string
}

export type LoadMessage =
  | { readonly kind: 'connected'; readonly ids: readonly string[] }
  | { readonly kind: 'progress'; readonly connected: number }
  /** An SVID is in an agent's hands. `at` is of `process.hrtime`, in milliseconds, as everywhere. */
  | { readonly kind: 'held'; readonly spiffeId: string; readonly at: number }

/** Handshakes that run at the same time. */
const AT_ONCE = 16

if (process.send) process.once('message', (order: LoadOrder) => void load(order))

async function load(order: LoadOrder): Promise<void> {
  const ids: string[] = []
  const waiting = [...order.agents]
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      ids.push(await connect(order, next))
      if (ids.length % 100 === 0) say({ kind: 'progress', connected: ids.length })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  say({ kind: 'connected', ids })
  process.once('disconnect', () => process.exit())
}

async function connect(order: LoadOrder, { joinToken, socket }: AgentOrder): Promise<string> {
  const trustDomain = parseTrustDomain(order.trustDomain)
  const shared = { clock: systemClock, random: systemRandom, log: silentLog }
  const agent = await startAgent({
    ...shared,
    trustDomain,
    joinToken,
    metrics: createMetrics(),
    version: 'bench',
    sentries: [order.sentry],
    trustBundle: readBundleDocument(Buffer.from(order.bundle), trustDomain),
    stateFile: fileInMemory(),
    ...(socket !== undefined && {
      serve: (identities) =>
        openLocalEndpoints({ ...shared, identities, sockets: [{ path: socket }] }),
    }),
  })
  await agent.whenReady(new AbortController().signal)
  const { identities } = agent
  const told = new Set<string>()
  identities.onChange(() => {
    const at = monotonicMs()
    for (const entry of identities.entries()) {
      if (told.has(entry.id) || !identities.x509Svid(entry)) continue
      told.add(entry.id)
      say({ kind: 'held', spiffeId: entry.spiffeId, at })
    }
  })
  return identities.status().agentId ?? ''
}

function fileInMemory(): SealedFile {
  let held: Uint8Array | undefined
  return {
    path: 'memory',
    read: async () => held,
    async write(plain) {
      held = plain
    },
  }
}

function say(message: LoadMessage): void {
  process.send?.(message)
}
