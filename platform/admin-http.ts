import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type HostPort, listenOn } from './listen.js'
import type { Metrics } from './metrics.js'

/** Whether a component can do its work, and if not, why: reason codes with a word of detail. */
export interface Readiness {
  readonly ready: boolean
  readonly reasons: readonly string[]
}

export interface AdminOptions {
  readonly listen: HostPort
  readonly metrics: Metrics
  readonly readiness: () => Readiness
  /** What `/status` answers. */
  readonly status?: () => unknown
}

export interface AdminServer extends AsyncDisposable {
  readonly address: HostPort
}

/** More would mean that somebody holds connections open for nothing. */
const MAX_CONNECTIONS = 64

/** `/livez` and `/healthz` (the process runs), `/readyz` (it can work, else 503 and why), `/metrics`, `/status`. */
export async function serveAdmin(options: AdminOptions): Promise<AdminServer> {
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 10_000, maxHeaderSize: 8192 },
    (request, response) => {
      void answer(request, response, options).catch(() => response.destroy())
    },
  )
  server.on('connection', keepLatest(MAX_CONNECTIONS))
  const address = await listenOn(server, options.listen)
  return {
    address,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

/** Closes the oldest connection when there are too many: to refuse the newest would let idle ones keep everybody out. */
function keepLatest(limit: number): (socket: Socket) => void {
  const open = new Set<Socket>()
  return (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    const [oldest] = open
    if (open.size > limit) oldest?.destroy()
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: AdminOptions,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return json(response, 405, { error: 'only GET is served here' })
  switch (request.url?.split('?')[0]) {
    case '/livez':
    case '/healthz':
      return json(response, 200, { live: true })
    case '/readyz': {
      const readiness = options.readiness()
      return json(response, readiness.ready ? 200 : 503, readiness)
    }
    case '/status':
      if (options.status) return json(response, 200, options.status())
      break
    case '/metrics': {
      const text = await options.metrics.text()
      response.writeHead(200, { 'content-type': options.metrics.contentType }).end(text)
      return
    }
    default:
      break
  }
  json(response, 404, { error: 'served here: /livez /healthz /readyz /metrics /status' })
}

function json(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body, (_, value: unknown) =>
    typeof value === 'bigint' ? Number(value) : value,
  )
  response
    .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    .end(`${text}\n`)
}
