import { parseSpiffeId, type SpiffeId } from '../../spiffe/index.js'
import type { TableSpec } from '../datastore/table.js'
import { type Selector, selectorText } from '../registration/selector.js'

/** A certificate of an agent. */
export interface AgentSvid {
  /** Lower-case hex without leading zeros. */
  readonly serialNumber: string
  /** Milliseconds since 1970. */
  readonly notAfter: number
}

/** A node that attested, and which of its certificates counts. */
export interface AgentRecord {
  readonly id: SpiffeId
  readonly attestationType: string
  readonly selectors: readonly Selector[]
  /** Undefined when the agent is banned. */
  readonly current: AgentSvid | undefined
  /** Renewed but not yet used; its first use makes it current. */
  readonly renewed: AgentSvid | undefined
  /** When the last current certificate ends or ended, in milliseconds since 1970; a ban keeps it. */
  readonly expiresAt: number
  readonly canReattest: boolean
  readonly version: string
}

export type AgentIndex = 'selector'

export const agentTable: TableSpec<AgentRecord, AgentIndex> = {
  kind: 'agent',
  indexes: ['selector'],
  keyOf: ({ id }) => id,
  termsOf: (_, { selectors }) => selectors.map(selectorText),
  encode: (record) => JSON.stringify(record),
  decode(payload) {
    const stored = JSON.parse(payload) as Omit<AgentRecord, 'id'> & { readonly id: string }
    const { current, renewed } = stored
    return { ...stored, id: parseSpiffeId(stored.id), current, renewed }
  },
}

export function isBanned({ current }: AgentRecord): boolean {
  return current === undefined
}
