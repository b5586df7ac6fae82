import type { Socket } from 'node:net'
import { authorize, type Permit, rawConnection } from '../../policies/index.js'
import { type AppAddress, connectApp } from '../app.js'
import { connectionFields } from '../http-exchange.js'
import type { Arrival, InboundProtocol, Served } from '../inbound.js'
import { binding } from '../inbound-gate.js'
import { callerFields, type InboundProtocolOptions, namespaceOf } from '../inbound-http.js'
import type { TcpRelay } from './relay.js'
import { relayTcp, tcpRecord } from './tcp-connection.js'

/** TCP in front of an app: the connection itself is judged, and again whenever the policy changes. */
export function inboundTcp(options: InboundProtocolOptions): InboundProtocol {
  const { tunnel, name, meter, context } = options
  const { policy, clock } = context
  const port = 'port' in tunnel.app ? tunnel.app.port : undefined

  const serve = (arrival: Arrival): Served | undefined => {
    const { caller, socket, ownId } = arrival
    const bind = binding({ caller, port })
    const judge = () => authorize(bind(policy.current()), rawConnection, clock.now().getTime())
    const { permit, decision } = judge()
    const record = tcpRecord({
      context,
      meter,
      tunnel: name,
      secure: caller.kind === 'verified' ? 'mtls' : 'unauthenticated',
      callerNamespace: namespaceOf(caller, context),
      decision,
      snapshotId: policy.current()?.id,
      fields: connectionFields({
        tunnel: name,
        protocol: 'tcp',
        ...callerFields(caller),
        target: ownId,
        tls_version: socket.getProtocol() ?? undefined,
        port,
      }),
    })
    if (!permit) {
      record.ended('policy')
      arrival.reset()
      return undefined
    }
    const { far, follow } = connectPermitted(permit, tunnel.app)
    const relay = relayTcp({ near: socket, far, record, context })
    follow(relay)
    return {
      busy: true,
      // Both sides end by themselves, or when the time for it is over.
      drain() {},
      retire() {},
      judgeAgain() {
        if (!judge().permit) relay.cut('policy')
      },
      cut: (reason) => relay.cut(reason),
    }
  }
  return { alpn: [], serve, destroy() {} }
}

/** Takes a permit: there is no way to reach the app without one. */
function connectPermitted(
  { request }: Permit,
  app: AppAddress,
): { readonly far: Socket; readonly follow: (relay: TcpRelay) => void } {
  if (request.kind !== 'tcp') throw new TypeError('a permit for a request opens no connection')
  let relay: TcpRelay | undefined
  // What is read is only lent, and a socket keeps what it cannot write at once.
  const far = connectApp(app, (bytes) => relay?.fromFar(Buffer.from(bytes)))
  return {
    far,
    follow(started) {
      relay = started
    },
  }
}
