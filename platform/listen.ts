import type { Server } from 'node:net'
import { PlatformError, systemCode } from './errors.js'

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Starts to listen and gives the address that came of it. Throws `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`. */
export function listenOn(
  server: Server,
  address: HostPort | { readonly path: string },
): Promise<HostPort> {
  const shown = 'path' in address ? address.path : `${address.host}:${address.port}`
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => reject(refusal(shown, error))
    server.once('error', onError)
    server.listen({ ...address, exclusive: false }, () => {
      server.removeListener('error', onError)
      const bound = server.address()
      resolve(
        bound && typeof bound === 'object'
          ? { host: bound.address, port: bound.port }
          : { host: shown, port: 0 },
      )
    })
  })
}

/** Reads `host:port`, `[v6]:port` or `:port` (all interfaces). Undefined when it is none. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text)
  if (!match) return undefined
  const port = Number(match[3])
  if (port > 65_535) return undefined
  return { host: match[1] ?? (match[2] || '0.0.0.0'), port }
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function refusal(shown: string, error: Error): PlatformError {
  const code = systemCode(error)
  return code === 'EADDRINUSE'
    ? new PlatformError('CS_PORT_TAKEN', `${shown} is in use by another process`, { cause: error })
    : new PlatformError('CS_LISTEN_FAILED', `cannot listen on ${shown}: ${code ?? error.message}`, {
        cause: error,
      })
}
