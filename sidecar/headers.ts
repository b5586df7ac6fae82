import { removesHeader } from '../policies/index.js'
import type { Headers } from './exchange.js'

const NO_NAMES: ReadonlySet<string> = new Set()

/** Names that occurred, with the verdict on each; a caller who makes names up does not fill it. */
const known = new Map<string, boolean>()
const MAX_KNOWN = 1024

/** The headers of a request that are passed on: without what only its sender's proxy may say. */
export function passedOn(headers: Headers, connectionNames: ReadonlySet<string>): string[] {
  const kept: string[] = []
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] ?? ''
    if (!removes(name) && !connectionNames.has(name)) kept.push(name, headers[at + 1] ?? '')
  }
  return kept
}

/** The headers of an app's response. It does not speak for the proxy. */
export function withoutOurs(headers: Headers): Headers {
  const speaks = headers.some((name, at) => at % 2 === 0 && name.startsWith('x-countersign-'))
  if (!speaks) return headers
  return headers.filter((_, at) => !headers[at - (at % 2)]?.startsWith('x-countersign-'))
}

/** Never taken from a trailer section: what was decided on and how it was framed is settled by then. */
const NOT_IN_TRAILERS = new Set([
  'authorization',
  'connection',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'cookie',
  'expect',
  'host',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'set-cookie',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

export function passedOnTrailers(trailers: Headers): Headers {
  if (trailers.length === 0) return trailers
  const kept = passedOn(trailers, NO_NAMES)
  return kept.filter((_, at) => !NOT_IN_TRAILERS.has(kept[at - (at % 2)] ?? ''))
}

/** The first value of a header. */
export function headerOf(headers: Headers, name: string): string | undefined {
  for (let at = 0; at < headers.length; at += 2) if (headers[at] === name) return headers[at + 1]
  return undefined
}

/** A gRPC call by its content type, which also decides how it is told of a refusal. */
export function isGrpc(headers: Headers): boolean {
  return headerOf(headers, 'content-type')?.startsWith('application/grpc') ?? false
}

function removes(name: string): boolean {
  const verdict = known.get(name)
  if (verdict !== undefined) return verdict
  const removed = removesHeader(name, { hopByHop: NO_NAMES })
  if (known.size < MAX_KNOWN) known.set(name, removed)
  return removed
}
