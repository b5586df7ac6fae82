import { stat } from 'node:fs/promises'
import { readRequired } from '../../platform/files.js'
import { parseTrustDomain, type TrustBundle } from '../../spiffe/index.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { readInput } from '../read-input.js'
import type { Inspection } from './inspection.js'
import { type Recognised, recognise } from './recognise.js'

const MAX_INPUT_BYTES = 4 * 1024 * 1024

/** What one argument of the command stands for. */
export interface Source {
  readonly name: string
  readonly items: readonly Recognised[]
  /** Of what needed no reading of bytes. */
  readonly inspections: readonly Inspection[]
  /** Permission bits of a file. */
  readonly mode: number | undefined
}

/** Opens a file, standard input (`-`) or a socket. */
export async function openSource(target: string, context: CliContext): Promise<Source> {
  if (target === '-') {
    const items = recognise(await readInput(context, MAX_INPUT_BYTES))
    return { name: 'standard input', items, inspections: [], mode: undefined }
  }
  const isAddress = target.startsWith('unix:') || target.startsWith('tcp:')
  const file = isAddress ? undefined : await stat(target).catch(() => undefined)
  if (isAddress || file?.isSocket()) {
    // gRPC takes longer to load than all else here, and only sockets need it.
    const { inspectSocket } = await import('./socket.js')
    const inspections = [await inspectSocket(target, context)]
    return { name: target, items: [], inspections, mode: undefined }
  }
  if (file?.isDirectory()) throw new CliError('CS_USAGE', `${target} is a folder`)
  const items = recognise(await readRequired(target, MAX_INPUT_BYTES))
  return { name: target, items, inspections: [], mode: file?.mode }
}

/** A bundle to verify against. PEM holds authorities alone, and neither form says whose they are. */
export async function readBundle(path: string): Promise<TrustBundle> {
  const [item] = recognise(await readRequired(path, MAX_INPUT_BYTES))
  if (item?.kind === 'bundle') return item.bundle
  if (item?.kind === 'x509') {
    const trustDomain = parseTrustDomain('unnamed')
    return { trustDomain, x509Authorities: item.certificates, jwtAuthorities: new Map() }
  }
  throw new CliError('CS_USAGE', `${path} holds no bundle`)
}
