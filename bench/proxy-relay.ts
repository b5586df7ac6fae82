/** The least that Node can do between a TLS and a plain socket: no verification, no decision, no limit, no log. */
import { connect } from 'node:net'
import { createServer } from 'node:tls'

export interface RelayOrder {
  readonly key: string
  readonly cert: string
  readonly app: number
}

if (process.send) {
  process.once('message', ({ key, cert, app }: RelayOrder) => {
    const options = { key, cert, minVersion: 'TLSv1.3', noDelay: true } as const
    const server = createServer(options, (near) => {
      const far = connect({ host: '127.0.0.1', port: app, noDelay: true })
      near.on('error', () => far.destroy()).on('close', () => far.destroy())
      far.on('error', () => near.destroy()).on('close', () => near.destroy())
      near.on('data', (chunk: Buffer) => far.write(chunk))
      far.on('data', (chunk: Buffer) => near.write(chunk))
    })
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      process.send?.({ ports: [typeof address === 'object' ? address?.port : 0] })
    })
    process.once('disconnect', () => process.exit())
  })
}
