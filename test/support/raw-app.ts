import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'

/** An app that answers in raw bytes and remembers every byte it was sent. */
export interface RawApp extends AsyncDisposable {
  readonly port: number
  readonly address: { readonly host: string; readonly port: number }
  /** All bytes of all connections, one character each. */
  received(): string
  readonly connections: number
  /** Resolves with the next connection. */
  next(): Promise<Socket>
}

/** Answers each batch of bytes by `respond`; by nothing when that gives undefined. */
export async function rawApp(
  respond: (text: string, socket: Socket) => string | undefined = () => OK,
): Promise<RawApp> {
  let received = ''
  let connections = 0
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections += 1
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1')
      received += text
      const answer = respond(text, socket)
      if (answer !== undefined) socket.write(answer, 'latin1')
    })
    socket.on('end', () => socket.end())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  return {
    port,
    address: { host: '127.0.0.1', port },
    received: () => received,
    get connections() {
      return connections
    },
    async next() {
      const [socket] = (await once(server, 'connection')) as [Socket]
      return socket
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

export const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
