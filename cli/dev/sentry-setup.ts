import { AgentClient } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleClient } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import { Entry } from '../../proto/gen/spire/api/types/types.js'
import { type TrustBundle, writeBundleDocument } from '../../spiffe/index.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { ask, sentryClient } from '../sentry-client.js'
import { idText, wireId, wireSelector } from '../spire-types.js'
import { bundleFromWire } from '../wire-bundle.js'

const TOKEN_TTL_SECONDS = 600
const ALREADY_EXISTS = 6

/** What an operator does once for an agent and two apps, over the admin socket of the sentry. */
export interface SentrySetup {
  bundle(): Promise<TrustBundle>
  bundleDocument(): Promise<string>
  joinToken(): Promise<string>
  /** The only agent of the demonstration. */
  agentId(): Promise<string>
  /** Makes the entry, or finds the one that is there. Gives its id. */
  entry(options: EntryOptions): Promise<string>
}

export interface EntryOptions {
  readonly spiffeId: string
  readonly parentId: string
  readonly selectors: readonly string[]
  readonly ttlSeconds: number
}

export function sentrySetup(socket: string, context: CliContext): SentrySetup {
  const agents = sentryClient(AgentClient, socket)
  const entries = sentryClient(EntryClient, socket)
  const bundles = sentryClient(BundleClient, socket)
  const bundle = async () =>
    bundleFromWire(await ask(bundles, 'getBundle', { request: { outputMask: undefined }, context }))
  return {
    bundle,
    bundleDocument: async () => writeBundleDocument(await bundle()),
    async joinToken() {
      const request = { ttl: TOKEN_TTL_SECONDS, token: '', agentId: undefined }
      return (await ask(agents, 'createJoinToken', { request, context })).value
    },
    async agentId() {
      const request = { filter: undefined, outputMask: undefined, pageSize: 0, pageToken: '' }
      const answer = await ask(agents, 'listAgents', { request, context })
      const agent = answer.agents.find(({ banned }) => !banned)
      if (!agent) throw new CliError('CS_DEV_FAILED', 'the sentry knows no agent')
      return idText(agent.id)
    },
    entry: async (options) => {
      const request = { entries: [entryFrom(options)], outputMask: undefined }
      const { results } = await ask(entries, 'batchCreateEntry', { request, context })
      const [result] = results
      if (result?.entry && [0, ALREADY_EXISTS].includes(result.status?.code ?? 2))
        return result.entry.id
      throw new CliError(
        'CS_DEV_FAILED',
        `no entry for ${options.spiffeId}: ${result?.status?.message}`,
      )
    },
  }
}

function entryFrom({ spiffeId, parentId, selectors, ttlSeconds }: EntryOptions): Entry {
  return Entry.fromPartial({
    spiffeId: wireId(spiffeId),
    parentId: wireId(parentId),
    selectors: selectors.map(wireSelector),
    x509SvidTtl: ttlSeconds,
  })
}
