import { CliError } from '../errors.js'
import { readStatus } from './calls.js'
import type { Supervised } from './supervise.js'

/** The identity that a sidecar presents at the moment. */
export interface DemoIdentity {
  readonly name: string
  readonly id: string
  readonly serial: string
  readonly expiresAt: Date
}

/** Asks a sidecar on its admin address who it is. Throws `CS_DEV_FAILED` when it does not say. */
export async function readIdentity(
  name: string,
  sidecar: Supervised,
  signal: AbortSignal,
): Promise<DemoIdentity> {
  const status = await readStatus(sidecar.addresses().admin ?? '', signal)
  const identity = field(status, 'identity')
  const [id, serial, expires] = ['id', 'serial', 'expires_at'].map((key) => field(identity, key))
  if (typeof id !== 'string' || typeof serial !== 'string' || typeof expires !== 'string') {
    throw new CliError('CS_DEV_FAILED', `the sidecar of ${name} does not say who it is`)
  }
  return { name, id, serial, expiresAt: new Date(expires) }
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null
    ? (value as Record<string, unknown>)[key]
    : undefined
}
