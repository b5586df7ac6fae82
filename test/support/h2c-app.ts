import { once } from 'node:events'
import { createServer } from 'node:http2'

/** An app that speaks HTTP/2 without TLS: it echoes bodies and sums them up in a trailer. */
export interface H2cApp extends AsyncDisposable {
  readonly address: { readonly host: string; readonly port: number }
  readonly requests: number
}

export async function h2cApp(): Promise<H2cApp> {
  let requests = 0
  const server = createServer()
  server.on('stream', (stream, headers) => {
    requests += 1
    let sum = 0
    stream.on('error', () => {})
    stream.respond(
      {
        ':status': 200,
        'x-te': String(headers['te'] ?? ''),
        'x-caller': String(headers['x-countersign-caller'] ?? ''),
      },
      { waitForTrailers: true },
    )
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': String(sum) }))
    stream.on('data', (chunk: Buffer) => {
      sum += chunk.length
      stream.write(chunk)
    })
    stream.on('end', () => stream.end())
  })
  const sessions = new Set<{ destroy(): void }>()
  server.on('session', (session) => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  return {
    address: { host: '127.0.0.1', port: typeof bound === 'object' && bound ? bound.port : 0 },
    get requests() {
      return requests
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      for (const session of sessions) session.destroy()
      await closed
    },
  }
}
