import { once } from 'node:events'
import { type AddressInfo } from 'node:net'
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import {
  authorize,
  bundleSet,
  type PeerVerifier,
  parseCertificate,
  parseSpiffeId,
  peerVerifier,
  SpiffeError,
  type VerifiedPeer,
  type X509Svid,
} from '../../spiffe/index.js'
import {
  type ConnectTlsOptions,
  connectTls,
  serverTlsOptions,
  verifyTlsPeer,
} from '../../spiffe/tls/index.js'
import { type TestCa, testAuthority } from '../support/authority.js'
import { extension, makeCertificate, name, publicKeyInfoOf } from '../support/certificate.js'
import { CERT_SIGN, CRL_SIGN, keys } from './x509-world.js'

export const now = () => new Date()
export const a = testAuthority('a.example')
export const b = testAuthority('b.example')
/** Both bundles are held by everybody: what a pool of all roots would let through must still be refused. */
export const verifier = peerVerifier({ bundles: bundleSet([a.bundle, b.bundle]) })

export const client = a.issueX509({ id: '/client' })
export const server = a.issueX509({ id: '/server' })
export const SERVER_ID = parseSpiffeId('spiffe://a.example/server')

/** An SVID put together by hand: what `parseX509Svid` would refuse, a peer can still present. */
export function presenting(chain: readonly Uint8Array[], { privateKey } = keys('tls')): X509Svid {
  const [leaf, ...others] = chain.map(parseCertificate)
  return { id: SERVER_ID, chain: [leaf!, ...others], privateKey }
}

/** A certificate for any ID, signed by any authority. */
export function forge(
  issuer: TestCa,
  id: string,
  extra: { ca?: boolean; notAfter?: number } = {},
): X509Svid {
  const leaf = makeCertificate({
    subject: name('forged'),
    publicKeyInfo: publicKeyInfoOf(keys('tls').publicKey),
    issuer: issuer.issuer,
    notBefore: Date.now() - 3_600_000,
    notAfter: extra.notAfter ?? Date.now() + 3_600_000,
    extensions: [
      extension.basicConstraints(extra.ca ?? false),
      extension.keyUsage(extra.ca ? CERT_SIGN | CRL_SIGN : 1),
      extension.subjectAltName({ uris: [id] }),
    ],
  })
  return presenting([leaf, issuer.certificate.der])
}

const opened: (() => void)[] = []

/** Registers what is to be closed after the test. */
export function closeLater(close: () => void): void {
  opened.push(close)
}

export function closeAll(): void {
  for (const close of opened.splice(0)) close()
}

export type Verdict = { readonly peer: VerifiedPeer } | { readonly code: string }

export interface TestServer {
  readonly port: number
  /** The verdict on the next peer that comes. */
  next(): Promise<Verdict>
}

/** A server that verifies its peer and greets whom it accepts. */
export async function serve(
  svid: X509Svid,
  options: TlsOptions & { verifier?: PeerVerifier } = {},
): Promise<TestServer> {
  const verdicts: Verdict[] = []
  const waiting: ((verdict: Verdict) => void)[] = []
  const sockets = new Set<TLSSocket>()
  const tell = (verdict: Verdict) => {
    const waiter = waiting.shift()
    if (waiter) waiter(verdict)
    else verdicts.push(verdict)
  }
  const listener = createServer({ ...serverTlsOptions(svid), ...options }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    try {
      tell({
        peer: verifyTlsPeer(socket, {
          verifier: options.verifier ?? verifier,
          now: now(),
          usage: 'client',
        }),
      })
      socket.write('hello')
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      tell({ code: error.code })
      socket.destroy()
    }
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  closeLater(() => {
    listener.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    port: (listener.address() as AddressInfo).port,
    next: async () => verdicts.shift() ?? new Promise((resolve) => waiting.push(resolve)),
  }
}

export const identity = (svid: X509Svid) => ({ x509Svid: () => svid })

export async function dial(port: number, options: Partial<ConnectTlsOptions> = {}) {
  const { signal } = new AbortController()
  const target = { host: '127.0.0.1', port }
  const connection = await connectTls({
    ...target,
    identity: identity(client),
    verifier,
    authorize: authorize.any(),
    now,
    signal,
    ...options,
  })
  closeLater(() => connection.socket.destroy())
  return connection
}

export const codeOfDial = (port: number, options?: Partial<ConnectTlsOptions>) =>
  dial(port, options).then(
    () => 'accepted',
    (error: unknown) => (error as { code?: string }).code,
  )
