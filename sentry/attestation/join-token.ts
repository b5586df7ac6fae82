import { createHash } from 'node:crypto'
import type { Clock } from '../../platform/clock.js'
import type { Random } from '../../platform/random.js'
import { makeSpiffeId, parseSpiffeId, type SpiffeId, type TrustDomain } from '../../spiffe/index.js'
import type { Datastore } from '../datastore/datastore.js'
import type { Draft } from '../datastore/draft.js'
import type { TableSpec } from '../datastore/table.js'
import { SentryError } from '../errors.js'
import type { Attestor } from './attestor.js'

/** A token that lets one node in, once. The token itself is nowhere but in the hands of its bearer. */
export interface JoinToken {
  /** SHA-256 of the token, lower-case hex. */
  readonly hash: string
  /** Who the node will be; chosen with the token, because entries may name it before it is used. */
  readonly agentId: SpiffeId
  /** Milliseconds since 1970. */
  readonly expiresAt: number
}

export const joinTokenTable: TableSpec<JoinToken> = {
  kind: 'join-token',
  indexes: [],
  keyOf: ({ hash }) => hash,
  termsOf: () => [],
  encode: (token) => JSON.stringify(token),
  decode(payload) {
    const stored = JSON.parse(payload) as Omit<JoinToken, 'agentId'> & { readonly agentId: string }
    return { ...stored, agentId: parseSpiffeId(stored.agentId) }
  },
}

export const JOIN_TOKEN = 'join_token'

const TOKEN_BYTES = 32
/** A chosen token must be as hard to guess as the least that we would choose: 128 bits. */
const MIN_TOKEN_LENGTH = 22
const MAX_TOKEN_LENGTH = 1024

export interface TokenRequest {
  readonly trustDomain: TrustDomain
  readonly random: Random
  /** Milliseconds since 1970. */
  readonly expiresAt: number
  /** Random unless given. */
  readonly value?: string
}

/** The token for its bearer and what is kept of it. Throws `CS_REQUEST_INVALID`. */
export function makeJoinToken(request: TokenRequest): { value: string; token: JoinToken } {
  const { trustDomain, random, expiresAt } = request
  const value = request.value ?? Buffer.from(random.bytes(TOKEN_BYTES)).toString('base64url')
  if (value.length < MIN_TOKEN_LENGTH || value.length > MAX_TOKEN_LENGTH) {
    throw new SentryError(
      'CS_REQUEST_INVALID',
      `token must have ${MIN_TOKEN_LENGTH} to ${MAX_TOKEN_LENGTH} characters`,
    )
  }
  // Not the token, as in SPIRE: the ID stands in certificates and logs.
  const agentId = makeSpiffeId(trustDomain, `/spire/agent/${JOIN_TOKEN}/${random.uuid()}`)
  return { value, token: { hash: hashOf(Buffer.from(value)), agentId, expiresAt } }
}

/** Throws `CS_JOIN_TOKEN_EXISTS`. */
export function keepJoinToken(draft: Draft, token: JoinToken): void {
  const tokens = draft.table(joinTokenTable)
  if (tokens.get(token.hash)) {
    throw new SentryError('CS_JOIN_TOKEN_EXISTS', 'token exists already')
  }
  tokens.put(token)
}

/** Deletes tokens whose time is over and returns how many. */
export function pruneJoinTokens(draft: Draft, now: number): number {
  const tokens = draft.table(joinTokenTable)
  const expired = [...tokens.values()].filter(({ expiresAt }) => expiresAt <= now)
  for (const { hash } of expired) tokens.remove(hash)
  return expired.length
}

/** Throws `CS_JOIN_TOKEN_INVALID`, `CS_JOIN_TOKEN_EXPIRED`. */
export function joinTokenAttestor(options: {
  readonly datastore: Datastore
  readonly clock: Clock
}): Attestor {
  const { datastore, clock } = options
  return {
    type: JOIN_TOKEN,
    attest(payload) {
      // Looked up by hash: how long it takes says nothing about the tokens that exist.
      const hash = hashOf(payload)
      const token = datastore.view(joinTokenTable).get(hash)
      if (!token) throw unknownToken()
      const claim = (draft: Draft) => spend(draft, { hash, now: clock.now().getTime() })
      return Promise.resolve({
        agentId: token.agentId,
        selectors: [],
        canReattest: false,
        claim,
      })
    },
  }
}

/** Only the write that finds the token still there has it; all others come too late. */
function spend(draft: Draft, use: { readonly hash: string; readonly now: number }): void {
  const tokens = draft.table(joinTokenTable)
  const token = tokens.get(use.hash)
  if (!token) throw unknownToken()
  if (token.expiresAt <= use.now) {
    throw new SentryError('CS_JOIN_TOKEN_EXPIRED', 'join token expired')
  }
  tokens.remove(use.hash)
}

function unknownToken(): SentryError {
  return new SentryError(
    'CS_JOIN_TOKEN_INVALID',
    'failed to attest: join token does not exist or has already been used',
  )
}

function hashOf(token: Uint8Array): string {
  return createHash('sha256').update(token).digest('hex')
}
