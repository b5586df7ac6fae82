import { Agent, type AgentMask, type X509SVID } from '../../../proto/gen/spire/api/types/types.js'
import { type AgentRecord, isBanned } from '../../attestation/agent-record.js'
import type { IssuedX509 } from '../../issue.js'
import { masked } from './mask.js'
import { idToWire } from './spiffe-id.js'

export function agentToWire(record: AgentRecord, mask: AgentMask | undefined): Agent {
  const agent: Agent = {
    id: idToWire(record.id),
    attestationType: record.attestationType,
    x509svidSerialNumber: decimal(record.current?.serialNumber ?? ''),
    x509svidExpiresAt: BigInt(Math.floor(record.expiresAt / 1000)),
    selectors: [...record.selectors],
    banned: isBanned(record),
    canReattest: record.canReattest,
    agentVersion: record.version,
  }
  return masked(agent, { mask, defaults: Agent.create(), always: ['id'] })
}

export function svidToWire({ chain, id, notAfter }: IssuedX509): X509SVID {
  return {
    certChain: [...chain],
    id: idToWire(id),
    expiresAt: BigInt(Math.floor(notAfter / 1000)),
    hint: '',
  }
}

/** Serial numbers are decimal in SPIRE's API, and empty for a banned agent. */
function decimal(hex: string): string {
  return hex === '' ? '' : BigInt(`0x${hex}`).toString()
}
