import type { BodyLength, RequestHead } from '../exchange.js'
import type { MessageLimits } from '../limits.js'
import { SPACE } from './characters.js'
import { bodyLengthOf, Framing, listedNames } from './framing.js'
import { readHeaders } from './header-section.js'
import type { WireFault } from './wire-fault.js'

export interface Http1Request extends RequestHead {
  /** 0 for HTTP/1.0, 1 for HTTP/1.1. */
  readonly minor: 0 | 1
  readonly keepAlive: boolean
  readonly expectsContinue: boolean
}

const NO_NAMES: ReadonlySet<string> = new Set()

/** Reads a request head, up to and including the line end of its last header line. */
export function readRequestHead(text: string, limits: MessageLimits): Http1Request | WireFault {
  const lineEnd = text.indexOf('\r\n')
  const methodEnd = text.indexOf(' ')
  const targetEnd = lineEnd - ' HTTP/1.x'.length
  if (methodEnd < 1 || targetEnd <= methodEnd) return 'bad_request_line'
  if (text.charCodeAt(targetEnd) !== SPACE) return 'bad_request_line'
  if (targetEnd - methodEnd - 1 > limits.targetBytes) return 'target_too_long'
  const minor = minorVersion(text, targetEnd + 1)
  if (minor === undefined) return faultOfVersion(text.slice(targetEnd + 1, lineEnd))

  const framing = new Framing()
  const from = lineEnd + 2
  const fault = readHeaders({ text, from, maxCount: limits.headers }, framing.visit)
  if (fault) return fault
  return settle({
    method: text.slice(0, methodEnd),
    target: text.slice(methodEnd + 1, targetEnd),
    minor,
    framing,
    limits,
  })
}

function settle(read: {
  readonly method: string
  readonly target: string
  readonly minor: 0 | 1
  readonly framing: Framing
  readonly limits: MessageLimits
}): Http1Request | WireFault {
  const { method, target, minor, framing, limits } = read
  const { hosts, headers, expect } = framing
  if (!areHosts(hosts, minor)) return 'bad_host'
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') return 'bad_expectation'
  const body = bodyLengthOf(framing, minor)
  if (body === undefined) return 'bad_framing'
  if (typeof body === 'number' && body > (limits.bodyBytes ?? Infinity)) return 'body_too_large'
  const names = framing.connection === undefined ? NO_NAMES : listedNames(framing.connection)
  const upgrade = wantsWebSocket(framing.upgrade, names)
  if (upgrade && !mayUpgrade({ method, minor, body })) return 'bad_upgrade'
  return {
    method,
    target,
    hosts,
    authority: undefined,
    headers,
    connectionNames: names,
    body,
    upgrade,
    minor,
    keepAlive: minor === 1 && !names.has('close'),
    expectsContinue: expect !== undefined && minor === 1,
  }
}

/** The upgrade to WebSocket is the only one that is carried out; others are ignored, as a server may. */
function wantsWebSocket(upgrade: string | undefined, names: ReadonlySet<string>): boolean {
  return upgrade !== undefined && names.has('upgrade') && upgrade.toLowerCase() === 'websocket'
}

function mayUpgrade({
  method,
  minor,
  body,
}: {
  readonly method: string
  readonly minor: 0 | 1
  readonly body: BodyLength
}): boolean {
  return method === 'GET' && minor === 1 && body === 'none'
}

const HOST = /^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/

/** HTTP/1.1 needs one. More than one is refused where :authority is compared with them as well. */
function areHosts(hosts: readonly string[], minor: 0 | 1): boolean {
  if (hosts.length === 0) return minor === 0
  return hosts.every((host) => HOST.test(host))
}

/** Of the version that stands at `at`. */
export function minorVersion(text: string, at: number): 0 | 1 | undefined {
  if (text.startsWith('HTTP/1.1', at)) return 1
  return text.startsWith('HTTP/1.0', at) ? 0 : undefined
}

function faultOfVersion(text: string): WireFault {
  return /^HTTP\/[0-9]\.[0-9]$/.test(text) ? 'bad_version' : 'bad_request_line'
}
