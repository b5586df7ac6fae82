import { localAppOf } from '../policies/index.js'
import { http1App, http2App } from './app.js'
import type { Caller } from './caller.js'
import { connectionFields, httpHandler } from './http-exchange.js'
import { Http1ServerConnection } from './http1/server-connection.js'
import { Http2ServerSession } from './http2/server-session.js'
import type { Arrival, InboundProtocol } from './inbound.js'
import { inboundGate } from './inbound-gate.js'
import { servedMethods } from './methods.js'
import type { TunnelMeter } from './metrics.js'
import type { ProxyContext } from './proxy-context.js'
import type { InboundTunnel } from './tunnels.js'

export interface InboundProtocolOptions {
  readonly tunnel: InboundTunnel
  readonly name: string
  readonly meter: TunnelMeter
  readonly context: ProxyContext
}

/** HTTP in front of an app: each request is judged by itself. */
export function inboundHttp(options: InboundProtocolOptions): InboundProtocol {
  const { tunnel, name, meter, context } = options
  const { limits, deadlines, policy, clock, random, accessLog } = context
  const connectTo = tunnel.protocol === 'h2c' ? http2App : http1App
  const app = connectTo({ address: tunnel.app, limits, deadlines })
  const port = 'port' in tunnel.app ? tunnel.app.port : undefined
  const methods = servedMethods(tunnel.methods)

  const handlerFor = ({ caller, socket, ownId }: Arrival) => {
    const newRequestId = () => random.uuid()
    const gate = inboundGate({ caller, ownId, policy, port, app, methods, clock, newRequestId })
    const fields = connectionFields({
      tunnel: name,
      protocol: socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1',
      ...callerFields(caller),
      target: ownId,
      tls_version: socket.getProtocol() ?? undefined,
      port,
    })
    return httpHandler({
      gate,
      clock,
      log: accessLog,
      meter,
      fields,
      callerNamespace: namespaceOf(caller, context),
      secure: caller.kind === 'verified' ? 'mtls' : 'unauthenticated',
      nextId: context.nextId,
    })
  }
  return {
    // The protocol of the app comes first: what need not be translated is faster.
    alpn: tunnel.protocol === 'h2c' ? ['h2', 'http/1.1'] : ['http/1.1', 'h2'],
    serve(arrival) {
      const { socket } = arrival
      const served = { socket, handler: handlerFor(arrival), limits, deadlines }
      return socket.alpnProtocol === 'h2'
        ? new Http2ServerSession(served)
        : new Http1ServerConnection(served)
    },
    destroy: () => app.destroy(),
  }
}

export function callerFields(caller: Caller) {
  if (caller.kind === 'unverified') return { caller: undefined }
  const { id, chain, expiresAt } = caller.peer
  return {
    caller: id,
    caller_serial: chain[0].serialNumber,
    caller_expires: new Date(expiresAt).toISOString(),
  }
}

/** For metrics: a namespace of the own trust domain, or `other`. */
export function namespaceOf(caller: Caller, { policy }: ProxyContext): string {
  const snapshot = policy.current()?.snapshot
  if (!snapshot || caller.kind === 'unverified') return 'other'
  const { trustDomain, app } = snapshot
  return localAppOf(caller.peer.id, { layout: app.layout, trustDomain })?.namespace ?? 'other'
}
