import type { SpiffeError } from '../../spiffe/index.js'
import type { WatchListener, X509Context } from '../../spiffe/workload-api/index.js'
import type { CliContext } from '../context.js'
import { printable } from '../printable.js'
import { type EndpointFlags, endpointClient } from './endpoint.js'
import { x509ContextJson, x509ContextLine } from './views.js'

export interface WatchFlags extends Pick<EndpointFlags, 'socket' | 'output'> {
  /** Ends after so many changes; without it, when the user interrupts. */
  readonly count?: number
}

/** Prints every change of identity and bundles as it comes. */
export async function watchIdentity(flags: WatchFlags, context: CliContext): Promise<void> {
  const client = endpointClient(flags.socket, context)
  const enough = new AbortController()
  const print = flags.output === 'json' ? jsonLines(context) : textLines(context)
  let left = flags.count ?? Number.POSITIVE_INFINITY
  const countDown = () => {
    left -= 1
    if (left <= 0) enough.abort()
  }
  const listener: WatchListener<X509Context> = {
    onUpdate(found) {
      print.onUpdate(found)
      countDown()
    },
    onWithdrawn(error) {
      print.onWithdrawn(error)
      countDown()
    },
    onError: (error) => print.onError?.(error),
  }
  try {
    await client.watchX509Context(listener, AbortSignal.any([context.signal, enough.signal]))
  } finally {
    client.close()
  }
}

function textLines({ stdout, stderr, now }: CliContext): WatchListener<X509Context> {
  const time = () => now().toISOString()
  return {
    onUpdate: (found) => stdout.write(`${time()}  ${x509ContextLine(found, now())}\n`),
    onWithdrawn: () => stdout.write(`${time()}  withdrawn: nothing is granted any more\n`),
    onError: ({ code, message }) => stderr.write(`${time()}  ${code}: ${printable(message)}\n`),
  }
}

/** One JSON object per line; what goes wrong is one too, on standard error. */
function jsonLines({ stdout, stderr, now }: CliContext): WatchListener<X509Context> {
  const line = (event: string, value: object) => {
    const head = { schema: 'countersign/x509-event/v1', time: now().toISOString(), event }
    return `${printable(JSON.stringify({ ...head, ...value }))}\n`
  }
  const reason = ({ code, message }: SpiffeError) => ({ code, message })
  return {
    onUpdate: (found) => stdout.write(line('updated', x509ContextJson(found))),
    onWithdrawn: (error) => stdout.write(line('withdrawn', reason(error))),
    onError: (error) => stderr.write(line('failed', reason(error))),
  }
}
