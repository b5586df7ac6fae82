/** Lower case, without port and without one trailing dot. */
export function normaliseHost(host: string): string {
  const lower = host.toLowerCase()
  const end = portStart(lower)
  const bare = end === -1 ? lower : lower.slice(0, end)
  return bare.endsWith('.') ? bare.slice(0, -1) : bare
}

/** Whether two authorities name the same host and port. */
export function sameAuthority(left: string, right: string): boolean {
  return withPort(left) === withPort(right)
}

function withPort(authority: string): string {
  const lower = authority.toLowerCase()
  const start = portStart(lower)
  return normaliseHost(lower) + (start === -1 ? '' : lower.slice(start))
}

const COLON = 0x3a

/** Where `:port` starts, or -1. */
function portStart(host: string): number {
  let at = host.length - 1
  while (at >= 0 && isDigit(host.charCodeAt(at))) at--
  return at < host.length - 1 && host.charCodeAt(at) === COLON ? at : -1
}

const isDigit = (code: number) => code >= 0x30 && code <= 0x39
