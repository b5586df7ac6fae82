/** The sidecar of the benchmark, as a process of its own: the real tunnels with a fixed identity and policy. */
import { createWriteStream } from 'node:fs'
import { silentLog } from '../platform/log.js'
import { createMetrics } from '../platform/metrics.js'
import { compileSnapshot, readSnapshot } from '../policies/index.js'
import { startProxy } from '../sidecar/proxy.js'
import type { InboundTunnel } from '../sidecar/tunnels.js'
import {
  bundleSet,
  certificatesFromPem,
  parseCertificate,
  parseTrustDomain,
  parseX509Svid,
} from '../spiffe/index.js'

export interface SidecarOrder {
  readonly trustDomain: string
  readonly chainPem: string
  readonly privateKeyDer: string
  readonly rootPem: string
  readonly snapshot: string
  readonly inbound: readonly InboundTunnel[]
  readonly accessLog: string
}

if (process.send) process.once('message', (order: SidecarOrder) => void run(order))

async function run(order: SidecarOrder): Promise<void> {
  const svid = parseX509Svid({
    chain: certificatesFromPem(order.chainPem),
    privateKeyDer: Buffer.from(order.privateKeyDer, 'base64'),
  })
  const bundles = bundleSet([
    {
      trustDomain: parseTrustDomain(order.trustDomain),
      x509Authorities: certificatesFromPem(order.rootPem).map(parseCertificate),
      jwtAuthorities: new Map(),
    },
  ])
  const policy = compileSnapshot(readSnapshot(Buffer.from(order.snapshot, 'base64')))
  const proxy = await startProxy({
    identity: { ...bundles, x509Svid: () => svid, onChange: () => () => {} },
    policy: { current: () => policy, onChange: () => () => {} },
    inbound: order.inbound,
    outbound: [],
    metrics: createMetrics(),
    log: silentLog,
    accessLog: { destination: createWriteStream(order.accessLog), mode: 'all' },
  })
  process.send?.({ ports: proxy.tunnels.map(({ address }) => address.port) })
  process.once('disconnect', () => process.exit())
}
