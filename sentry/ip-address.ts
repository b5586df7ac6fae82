import { isIPv4, isIPv6 } from 'node:net'
import { SentryError } from './errors.js'

const GROUPS = 8

/** The 4 or 16 bytes of an address, as a certificate carries it. Throws `CS_ISSUE_REQUEST_INVALID`. */
export function parseIpAddress(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (isIPv6(text) && !text.includes('%')) return ipv6Bytes(text)
  throw new SentryError('CS_ISSUE_REQUEST_INVALID', 'IP address is neither IPv4 nor IPv6')
}

/** For text that has been found to be an IPv6 address. */
function ipv6Bytes(text: string): Uint8Array {
  const [head = '', tail] = text.split('::')
  const before = groupsIn(head)
  const after = groupsIn(tail ?? '')
  const zeros = Array.from({ length: GROUPS - before.length - after.length }, () => 0)
  return Uint8Array.from(
    [...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 0xff]),
  )
}

function groupsIn(part: string): number[] {
  if (part === '') return []
  return part.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [a * 256 + b, c * 256 + d]
  })
}
