import { makeSpiffeId, type SpiffeId, type TrustDomain } from '../../spiffe/index.js'
import { admitAgent } from '../attestation/agents.js'
import type { Datastore } from '../datastore/datastore.js'
import { SentryError } from '../errors.js'
import { entryTable, hasExpired } from '../registration/entry.js'
import type { Caller } from './caller.js'

/** What a caller can be allowed as. */
type Role = 'any' | 'local' | 'admin' | 'agent' | 'downstream'

const anyone: readonly Role[] = ['any']
const administrators: readonly Role[] = ['local', 'admin']
const agents: readonly Role[] = ['agent']

const rules: Readonly<Record<string, Readonly<Record<string, readonly Role[]>>>> = {
  'spire.api.server.agent.v1.Agent': {
    AttestAgent: anyone,
    CountAgents: administrators,
    ListAgents: administrators,
    GetAgent: administrators,
    DeleteAgent: administrators,
    BanAgent: administrators,
    CreateJoinToken: administrators,
    RenewAgent: agents,
    PostStatus: agents,
  },
  'spire.api.server.entry.v1.Entry': {
    CountEntries: administrators,
    ListEntries: administrators,
    GetEntry: administrators,
    BatchCreateEntry: administrators,
    BatchUpdateEntry: administrators,
    BatchDeleteEntry: administrators,
    GetAuthorizedEntries: agents,
    SyncAuthorizedEntries: agents,
  },
  'spire.api.server.svid.v1.SVID': {
    MintX509SVID: administrators,
    MintJWTSVID: administrators,
    MintWITSVID: administrators,
    BatchNewX509SVID: agents,
    NewJWTSVID: agents,
    BatchNewWITSVID: agents,
    NewDownstreamX509CA: ['downstream'],
  },
  'spire.api.server.bundle.v1.Bundle': {
    GetBundle: anyone,
    GetFederatedBundle: ['local', 'admin', 'agent'],
    CountBundles: administrators,
    AppendBundle: administrators,
    ListFederatedBundles: administrators,
    BatchCreateFederatedBundle: administrators,
    BatchUpdateFederatedBundle: administrators,
    BatchSetFederatedBundle: administrators,
    BatchDeleteFederatedBundle: administrators,
    PublishJWTAuthority: ['downstream'],
    PublishWITAuthority: ['downstream'],
  },
  'grpc.health.v1.Health': {
    Check: ['local'],
    Watch: ['local'],
  },
  'countersign.policy.v1.PolicyAdmin': {
    Apply: administrators,
    List: administrators,
    Delete: administrators,
    WatchStatus: administrators,
    GetSnapshot: administrators,
  },
  'countersign.sentry.v1.Updates': {
    Follow: agents,
  },
}

const rolesOf: ReadonlyMap<string, readonly Role[]> = new Map(
  Object.entries(rules).flatMap(([service, methods]) =>
    Object.entries(methods).map(([method, roles]) => [`/${service}/${method}`, roles]),
  ),
)

/** Says who may call what. A method that is not in the table may be called by nobody. */
export interface Authorization {
  /**
   * Throws `CS_CALLER_NOT_ALLOWED`, or for a caller that only the agent check could have let in, what
   * the agent check says.
   */
  admit(path: string, caller: Caller): Promise<void>
}

export function authorization(options: {
  readonly datastore: Datastore
  readonly trustDomain: TrustDomain
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly now: () => Date
}): Authorization {
  const { datastore, trustDomain, adminIds, now } = options
  const entries = datastore.view(entryTable)
  const serverId = makeSpiffeId(trustDomain, '/spire/server')

  const holdsFlag = (id: SpiffeId, flag: 'admin' | 'downstream') =>
    entries.by('spiffe-id', id).some((entry) => entry[flag] && !hasExpired(entry, now().getTime()))
  const has = (role: Role, caller: Caller): boolean => {
    if (role === 'any') return true
    if (caller.kind !== 'identified') return role === caller.kind
    if (caller.expiresAt <= now().getTime()) return false
    if (role === 'admin') return adminIds.has(caller.id) || holdsFlag(caller.id, 'admin')
    return role === 'downstream' && holdsFlag(caller.id, 'downstream')
  }

  return {
    async admit(path, caller) {
      const roles = rolesOf.get(path) ?? []
      if (roles.some((role) => has(role, caller))) return
      if (!roles.includes('agent') || caller.kind !== 'identified' || caller.id === serverId) {
        throw new SentryError('CS_CALLER_NOT_ALLOWED', `authorization denied for method ${path}`)
      }
      const { serialNumber, notAfter } = caller.leaf
      const presented = { id: caller.id, serialNumber, notAfter }
      await admitAgent({ datastore, presented, now: now() })
    },
  }
}
