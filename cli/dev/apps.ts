import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { type Command, InvalidArgumentError } from 'commander'
import { formatHostPort, type HostPort, listenOn, parseHostPort } from '../../platform/listen.js'
import type { CliContext } from '../context.js'
import { announceReady, stopRequested } from '../process.js'

/** The two apps of the demonstration: plain HTTP, without a line about identity in them. */
export function registerDemoApps(program: Command, context: CliContext): void {
  const noun = program
    .command('demo-app', { hidden: true })
    .description('the apps that countersign dev starts')
  noun
    .command('orders')
    .requiredOption('--listen <host:port>', 'where it is served', hostPort)
    .action(({ listen }: { listen: HostPort }) => serve({ listen, handle: orders, context }))
  noun
    .command('shop')
    .requiredOption('--listen <host:port>', 'where it is served', hostPort)
    .requiredOption('--orders <host:port>', 'where its sidecar takes calls to orders', hostPort)
    .action(({ listen, orders: target }: { listen: HostPort; orders: HostPort }) =>
      serve({ listen, handle: (request, response) => shop(target, request, response), context }),
    )
}

function hostPort(text: string): HostPort {
  const read = parseHostPort(text)
  if (!read) throw new InvalidArgumentError('takes host:port')
  return read
}

interface App {
  readonly listen: HostPort
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void
  readonly context: CliContext
}

async function serve({ listen, handle, context }: App): Promise<void> {
  const server = createServer(handle)
  const address = await listenOn(server, listen)
  announceReady(context, { http: formatHostPort(address) })
  await stopRequested(context)
  server.close()
  server.closeAllConnections()
}

/** Answers with what it was asked and with who asked, as its sidecar says. */
function orders(request: IncomingMessage, response: ServerResponse): void {
  const order = {
    order: request.url?.split('/').pop(),
    state: request.method === 'GET' ? 'packed' : 'changed',
  }
  const caller = request.headers['x-countersign-caller'] ?? null
  request.resume()
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ ...order, caller }))
}

/** Passes a call on to orders through its sidecar, and tells what came back. */
function shop(target: HostPort, request: IncomingMessage, response: ServerResponse): void {
  const { method = 'GET', url = '/' } = request
  request.resume()
  const call = httpRequest(
    { ...target, method, path: url, headers: { host: 'orders' } },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    },
  )
  call.on('error', (error) => {
    response
      .writeHead(502, { 'content-type': 'text/plain' })
      .end(`shop could not reach its sidecar: ${error.message}\n`)
  })
  call.end()
}
